"""``relit service install``: a unit that its account can run."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from cli_house import House

from relit.cli.commands.service import whose


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_settings_of_the_environment_are_in_the_unit_but_for_secrets(house: House) -> None:
    house.environment |= {"RELIT_NODE__RESERVE": "1G", "RELIT_VAULT__PASSPHRASE": "open sesame"}
    done = house.run("service", "install", "--print")
    assert done.exit_code == 0, done.output
    assert 'Environment="RELIT_NODE__RESERVE=1G"' in done.stdout
    assert "sesame" not in done.output
    assert "RELIT_VAULT__PASSPHRASE is not in the unit" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="another account's folder needs root")
def test_an_account_that_cannot_reach_the_data_is_told(house: House) -> None:
    account = pwd.getpwuid(65534).pw_name
    house.data.mkdir(mode=0o700, exist_ok=True)
    done = house.run("service", "install", "--system", "--account", account, "--print")
    assert done.exit_code == 78
    assert f"{account} cannot work in {house.data}" in done.stderr
    assert f"--data /var/lib/relit service install --system --account {account}" in done.stderr
    os.chown(house.data, 65534, 65534)
    assert f"User={account}" in house.run("service", "install", "--system", "--account", account, "--print").stdout
    assert house.run("service", "install", "--system", "--account", "nobody-here", "--print").exit_code == 78


@pytest.mark.parametrize(
    ("groups", "system"),
    [
        ("0::/system.slice/relit.service", True),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/relit.service", False),
        ("1:name=systemd:/system.slice/relit.service", True),
        ("0::/user.slice/user-0.slice/session-3.scope", None),
        ("0::/system.slice/other-relit.service.d", None),
        ("", None),
    ],
)
def test_the_unit_that_a_node_runs_in_is_known_by_its_group(groups: str, system: bool | None) -> None:
    assert whose(groups) is system


def test_down_asks_no_systemd_where_no_unit_runs_it(house: House) -> None:
    assert house.run("down").stdout == "nothing was running\n"
