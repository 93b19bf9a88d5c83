"""Rung 3, to its end: an older home is found in a clone, and the agent goes back to it; so is a configuration that
works, of those that nobody knows to be good."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
from agent_house import AgentHouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

HEAL = """
[agents.eve.heal]
restarts = 1
"""


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHouse]:
    made = AgentHouse(tmp_path_factory.mktemp("older"))
    added = made.run("agent", "add", "eve", "--kind", "toy")
    assert added.exit_code == 0, added.output
    file = made.folder / "agents.d/eve.toml"
    file.write_text(file.read_text() + HEAL)
    made.up()
    try:
        yield made
    finally:
        made.down()


def good(house: AgentHouse, diary: str, *, poison: bool = False) -> int:
    """A snapshot that is called known-good, and is or is not."""
    (house.home("eve") / "state/diary").write_text(diary)
    if poison:
        (house.home("eve") / "state/poison").touch()
    assert house.run("volume", "snapshot", "eve").exit_code == 0
    number = int(house.json("volume", "log", "eve")["snapshots"][0]["number"])
    assert house.run("volume", "tag", "eve", str(number), "known-good").exit_code == 0
    return number


def back(house: AgentHouse, before: object) -> bool:
    now = house.listed("eve")
    return now["state"] == "ready" and now["pid"] != before


def kill(house: AgentHouse) -> None:
    """Until it is back."""
    before = house.listed("eve")["pid"]
    assert isinstance(before, int)
    os.kill(before, signal.SIGKILL)
    until = time.monotonic() + 90
    while not back(house, before):
        assert time.monotonic() < until, house.run("why", "eve").output
        time.sleep(0.2)


def test_the_newest_home_that_a_clone_comes_up_with_is_gone_back_to(house: AgentHouse) -> None:
    good(house, "one")
    wanted = good(house, "two")
    broken = [good(house, text, poison=True) for text in ("three", "four", "five")]
    kill(house)
    state = house.home("eve") / "state"
    assert (state / "diary").read_text() == "two"
    assert not (state / "poison").exists()
    assert not list((house.data / "agents").glob("*.older"))
    assert "eve.older" not in [each["agent"] for each in house.json("volume", "ls")["volumes"]]
    told = house.run("why", "eve").output.replace("\n", " ")
    assert f"snapshot {wanted}, of" in told
    assert "it was poisoned" in told
    assert str(broken[0]) in told
    starts = (state / "starts").read_text().split("\n")[:-1]
    assert all(each == "1.0 True" for each in starts), "the clones' starts are not in it"


def test_a_configuration_that_is_ruined_in_two_ways_before_any_was_proven_comes_back(house: AgentHouse) -> None:
    """Its own check refuses one of them, nobody can read the other: neither is what it goes back to."""
    assert house.run("volume", "snapshot", "eve").exit_code == 0
    file = house.home("eve") / "state/toy.json"
    well = json.loads(file.read_text())
    for ruin in (json.dumps(well | {"nonsense": 1}), '{"port":'):
        file.write_text(ruin)
        kill(house)
        assert json.loads(file.read_text()) == well
    [incident] = [each for each in house.json("incidents")["incidents"] if each["agent"] == "eve"]
    assert incident["severity"] != "critical", house.run("why", "eve").output
