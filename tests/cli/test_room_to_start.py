"""Agents for which there is no room: relit starts all the same, says so, and starts them when there is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from cli_house import House

from relit.pressure.footprint import MB
from relit.pressure.meter import Meter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]
CONFIG = """
[node]
reserve = "{reserve}"
[agents.tick]
kind = "command"
command = ["sleep", "1000"]
sandbox = "off"
"""


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("room"))
    reserves(made, f"{Meter().room().capacity // MB - 80}M")  # it would fit, if nobody else had anything
    yield made
    made.down()


def reserves(house: House, much: str) -> None:
    path = house.folder / "relit.toml"
    path.write_text(CONFIG.format(reserve=much))
    house.environment["RELIT_CONFIG"] = str(path)


def state(house: House) -> tuple[str, str]:
    [found] = [each for each in house.json("ps")["agents"] if each["agent"] == "tick"]
    return found["state"], found["reason"]


def test_relit_is_up_while_an_agent_waits_and_it_starts_when_there_is_room(house: House) -> None:
    house.up()
    assert state(house)[0] == "starting"
    assert "MB are free beside the reserve" in state(house)[1]
    reserves(house, "1M")
    house.spawn("down")
    house.up()
    until = time.monotonic() + 20
    while state(house)[0] != "ready":
        assert time.monotonic() < until, state(house)
        time.sleep(0.1)
