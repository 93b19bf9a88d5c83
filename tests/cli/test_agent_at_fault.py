"""Settings of one agent that are wrong: who is told, and who runs all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_house import House, until

from relit.lib import proc

pytestmark = pytest.mark.slow

GOOD = '[agents.good]\nkind = "command"\ncommand = ["sleep", "1000"]\n'
BAD = '[agents.bad]\nkind = "command"\ncommand = ["sleep", "1000"]\nenv = { T = "secret:foo" }\n'


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.environment["RELIT_CONFIG"] = str(tmp_path / "relit.toml")
    (tmp_path / "relit.toml").write_text(GOOD)
    try:
        yield made
    finally:
        made.down()


def of(house: House, name: str) -> dict[str, Any]:
    instances = house.json("ps", "--all")["instances"]
    return next((each for each in instances if each["name"] == name), {"state": ""})


def test_an_agent_without_its_secret_is_told_of_and_keeps_no_other_down(house: House) -> None:
    assert house.spawn("up").returncode == 0
    (house.folder / "relit.toml").write_text(GOOD + BAD)
    refused = house.spawn("up")
    assert refused.returncode == 78
    assert "did not take up the new settings" in refused.stderr
    assert "the secret foo is not set" in refused.stderr
    assert refused.stderr.count("fix:") == 1, "one error, not one in another"

    node, pid = house.json("ps", "--all")["node"], of(house, "good")["pid"]
    for each in (node, house.json("ps", "--all")["keeper"], pid):
        os.kill(each, signal.SIGKILL)
    until(lambda: proc.start_time(node) is None, "the node is dead")
    command = [sys.executable, "-m", "relit.cli", "node", "run"]
    with subprocess.Popen(command, cwd=house.folder, env=house.environment, stderr=subprocess.DEVNULL):
        until(lambda: of(house, "good")["state"] == "ready" and of(house, "bad")["state"] == "down", "the others run")
        assert "the secret foo is not set" in of(house, "bad")["reason"]
        until(lambda: "the secret foo is not set" in house.run("why", "bad").output, "it is told why")
        assert house.run("secret", "set", "foo", text="value\n").exit_code == 0
        until(lambda: of(house, "bad")["state"] == "ready", "it starts as soon as it can")
        assert house.run("up").exit_code == 0
        house.down()


def test_a_first_up_tells_who_cannot_start(house: House) -> None:
    (house.folder / "relit.toml").write_text(GOOD + BAD)
    done = house.spawn("up")
    assert done.returncode == 78
    assert "bad cannot start" in done.stderr
    assert "relit secret set foo" in done.stderr
    assert "nothing was running" in house.spawn("down").stdout
