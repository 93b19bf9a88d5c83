"""``relit agent upgrade`` and ``rollback``: tried in a clone, gone back from, remembered."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from agent_house import AgentHouse

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHouse]:
    made = AgentHouse(tmp_path_factory.mktemp("lively"))
    for name in ("bob", "cid", "dan"):
        added = made.run("agent", "add", name, "--kind", "toy")
        assert added.exit_code == 0, added.output
    made.up()
    try:
        yield made
    finally:
        made.down()


def starts(house: AgentHouse, name: str) -> list[str]:
    return (house.home(name) / "state/starts").read_text().split("\n")[:-1]


def test_an_upgrade_is_tried_in_a_clone_and_rolled_back(lively: AgentHouse) -> None:
    file = lively.folder / "agents.d/bob.toml"
    file.write_text(file.read_text().replace('version = "1.0"', 'version = "1.0"  # mine'))
    before = starts(lively, "bob")
    done = lively.run("--yes", "agent", "upgrade", "bob", "2.0")
    assert done.exit_code == 0, done.output
    assert 'version = "2.0"  # mine' in file.read_text()
    assert starts(lively, "bob") == [*before, "2.0 True"]  # the clone's start is not in it
    assert lively.listed("bob")["version"] == "2.0"
    assert not (lively.data / "agents/bob.trial").exists()
    assert "bob.trial" not in [each["agent"] for each in lively.json("volume", "ls")["volumes"]]
    back = lively.run("--yes", "agent", "rollback", "bob")
    assert back.exit_code == 0, back.output
    assert 'version = "1.0"  # mine' in file.read_text()
    assert starts(lively, "bob") == [*before, "1.0 True"]  # what 2.0 wrote is gone
    assert lively.run("--yes", "agent", "rollback", "bob").exit_code == 4


def test_a_version_that_fails_in_the_clone_never_reaches_the_agent(lively: AgentHouse) -> None:
    pid = lively.listed("cid")["pid"]
    done = lively.run("--yes", "agent", "upgrade", "cid", "3.0")
    assert done.exit_code == 1
    assert "version 3 does not start" in done.output
    assert lively.listed("cid")["pid"] == pid
    again = lively.run("--yes", "agent", "upgrade", "cid", "3.0")
    assert again.exit_code == 6
    assert "failed before, for cid" in again.output
    assert json.loads((lively.data / "runtimes/toy/bad.json").read_text())["3.0"]["agent"] == "cid"


def test_a_version_that_fails_only_for_real_is_gone_back_from(lively: AgentHouse) -> None:
    before = starts(lively, "dan")
    done = lively.run("--yes", "agent", "upgrade", "dan", "4.0")
    assert done.exit_code == 1, done.output
    assert "it is back at 1.0" in done.output
    assert starts(lively, "dan") == [*before, "1.0 True"]
    assert lively.listed("dan")["state"] == "ready"
    assert 'version = "1.0"' in (lively.folder / "agents.d/dan.toml").read_text()
    assert "4.0" in json.loads((lively.data / "runtimes/toy/bad.json").read_text())


def test_an_agent_without_a_version_is_not_upgraded(lively: AgentHouse) -> None:
    assert lively.run("--yes", "agent", "upgrade", "tick", "2.0").exit_code == 2
    assert lively.run("--yes", "agent", "upgrade", "bob").exit_code == 6  # it has the kind's version
