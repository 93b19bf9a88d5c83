"""``relit agent prune``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from agent_house import AgentHouse

pytestmark = pytest.mark.slow


@pytest.fixture
def house(tmp_path: Path) -> AgentHouse:
    """Of two versions one has lost its agent, long ago."""
    made = AgentHouse(tmp_path)
    for name, version in (("eve", "1.0"), ("zoe", "2.0")):
        assert made.run("agent", "add", name, "--kind", "toy", "--version", version).exit_code == 0
    assert made.run("--yes", "agent", "rm", "zoe").exit_code == 0
    for each in (made.data / "runtimes/toy").glob("*/runtime.json"):
        os.utime(each, (1, 1))
    return made


def test_a_version_without_an_agent_is_shown_asked_about_and_removed(house: AgentHouse) -> None:
    shown = house.run("agent", "prune", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "eve has it" in shown.output
    assert "1 would go" in shown.output
    asked = house.run("agent", "prune")
    assert asked.exit_code == 2
    assert "Remove toy 2.0 (" in asked.output
    assert (house.data / "runtimes/toy/2.0").is_dir()
    done = house.json("--yes", "agent", "prune")
    assert [(each["version"], each["why"]) for each in done["removed"]] == [("2.0", "")]
    assert done["freed_bytes"] == done["removed"][0]["size_bytes"] > 10_000
    assert [each.name for each in (house.data / "runtimes/toy").glob("[0-9]*")] == ["1.0"]
    assert "0 went, 0 B freed" in house.run("agent", "prune").output
    assert "is whole" in house.run("agent", "install", "eve").output
