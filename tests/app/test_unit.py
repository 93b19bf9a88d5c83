from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from relit.app.unit import Unit

UNIT = Unit(
    command=["/opt/relit/python", "-m", "relit.cli", "--data", '/da ta/50%/"$x"', "node"],
    folder="/etc/relit",
    path="/usr/bin",
)


def test_the_node_may_die_alone_and_is_started_again() -> None:
    text = UNIT.text()
    for line in ("KillMode=process", "Delegate=yes", "Restart=always", "ExecReload=/bin/kill -HUP $MAINPID"):
        assert line in text.splitlines()


def test_odd_names_reach_the_node_as_they_are() -> None:
    [line] = [each for each in UNIT.text().splitlines() if each.startswith("ExecStart=")]
    assert line.endswith('"--data" "/da ta/50%%/\\"$$x\\"" "node"')


@pytest.mark.parametrize("user", [True, False])
def test_whose_it_is(user: bool) -> None:
    text = Unit(command=["x"], folder="/", path="/bin", user=user, account="relit").text()
    assert ("User=relit" in text) == (not user)
    assert f"WantedBy={'default' if user else 'multi-user'}.target" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_it(tmp_path: Path) -> None:
    place = tmp_path / "relit.service"
    place.write_text(Unit(command=["/bin/sleep", "1"], folder="/", path="/bin", user=False).text())
    done = subprocess.run(["systemd-analyze", "verify", str(place)], capture_output=True, text=True, check=False)
    assert "Unknown" not in done.stderr
    assert "Failed to parse" not in done.stderr
