"""Runtimes that nothing needs go; what agents, rollbacks, processes or commands need stays."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

import toy_kind
from relit.agents import runtime_record
from relit.agents.recipes import Recipe
from relit.app import agent_pruning, agent_versions
from relit.app.agent_pruning import Pruned, Verdict
from relit.app.agent_versions import Step
from relit.errors import ConfigError
from relit.settings import Environment, Settings, load

RECORD = runtime_record.Record(
    kind="toy", version="1.0", installed_ms=0, size_bytes=100, files=1, sums="", artifacts=[],
    recipe=Recipe("toy", "1.0"),
)  # fmt: skip


class Place:
    """A data folder with the agent ``eve``, which has version 3.0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "data/runtimes"
        toy_kind.install(folder)
        (folder / "relit.toml").write_text('[agents.eve]\nkind = "toy"\nversion = "3.0"\n')
        for version in ("1.0", "1.0.1", "2.0", "3.0"):
            self.installed("toy", version)

    def installed(self, kind: str, version: str, node: str = "", *, just: bool = False) -> Path:
        path = self.root / kind / version
        path.mkdir(parents=True)
        runtime_record.write(path, msgspec.structs.replace(RECORD, kind=kind, version=version, node=node))
        if not just:
            os.utime(path / "runtime.json", (1, 1))
        return path

    @property
    def settings(self) -> Settings:
        return load(self.folder / "relit.toml", environment=Environment({}), data=self.folder / "data")

    def went(self, *versions: str) -> None:
        """It was upgraded from each to the next."""
        steps = [
            Step(before=before, after=after, snapshot=1, at_ms=1) for before, after in itertools.pairwise(versions)
        ]
        (self.folder / "data/agents/eve/run").mkdir(parents=True, exist_ok=True)
        agent_versions.put_steps(self.settings, "eve", steps)

    def look(self, rollbacks: int | None = None) -> Pruned:
        return agent_pruning.look(self.settings, rollbacks)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def names(found: list[Verdict]) -> list[str]:
    return [f"{each.kind} {each.version}" for each in found]


def test_versions_that_no_agent_has_go(place: Place) -> None:
    found = place.look()
    assert names(found.removed) == ["toy 1.0", "toy 1.0.1", "toy 2.0"]
    assert [(each.version, each.why) for each in found.kept] == [("3.0", "eve has it")]
    assert (found.freed_bytes, found.dry_run) == (300, True)
    done = agent_pruning.prune(place.settings, found)
    assert (done.removed, done.kept, done.freed_bytes) == (found.removed, found.kept, 300)
    assert sorted(each.name for each in (place.root / "toy").iterdir()) == [".lock", "3.0"]


def test_versions_that_a_rollback_goes_back_to_stay(place: Place) -> None:
    place.went("1.0", "2.0", "3.0")
    assert names(place.look().removed) == ["toy 1.0.1"]
    assert [each.why for each in place.look().kept][:2] == ["eve can go back to it"] * 2
    assert names(place.look(rollbacks=1).removed) == ["toy 1.0", "toy 1.0.1"]
    assert names(place.look(rollbacks=0).removed) == ["toy 1.0", "toy 1.0.1", "toy 2.0"]


def test_an_upgrade_that_was_gone_back_from_keeps_no_version(place: Place) -> None:
    """A rollback that was killed at its very end leaves its step in the record."""
    place.went("1.0", "3.0", "2.0")
    assert names(place.look().removed) == ["toy 1.0.1", "toy 2.0"]


def test_a_version_that_a_process_runs_from_stays(place: Place) -> None:
    program = place.root / "toy/1.0/sleep"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "1000"]) as running:
        found = place.look()
        running.kill()
    assert names(found.removed) == ["toy 1.0.1", "toy 2.0"]
    assert found.kept[0].why == f"pid {running.pid} runs from it"


def test_a_version_that_a_process_was_told_of_stays(place: Place) -> None:
    env = {"PATH": f"/bin:{place.root}/toy/1.0.1/venv/bin"}
    with subprocess.Popen(["/bin/sleep", "1000"], env=env) as running:
        found = place.look()
        running.kill()
    assert names(found.removed) == ["toy 1.0", "toy 2.0"]


def test_a_version_that_was_just_asked_for_stays(place: Place) -> None:
    runtime_record.use(place.root / "toy/2.0")
    place.installed("toy", "9.0", just=True)
    assert names(place.look().removed) == ["toy 1.0", "toy 1.0.1"]


def test_a_node_goes_with_the_last_that_needs_it(place: Place) -> None:
    for version in ("22.0.0", "24.0.0"):
        place.installed("node", version)
    place.installed("other", "1", node="22.0.0")
    place.installed("toy", "4.0", node="24.0.0")
    (place.folder / "relit.toml").write_text('[agents.eve]\nkind = "toy"\nversion = "4.0"\n')
    found = place.look()
    assert names(found.removed)[0] == "other 1"
    assert names(found.removed)[-1] == "node 22.0.0"
    assert [(each.version, each.why) for each in found.kept] == [
        ("4.0", "eve has it"),
        ("24.0.0", "toy 4.0 needs it"),
    ]
    assert agent_pruning.prune(place.settings, found).removed == found.removed
    assert [each.name for each in (place.root / "node").glob("[!.]*")] == ["24.0.0"]


def test_what_a_killed_installer_left_goes_too(place: Place) -> None:
    (place.root / "toy/.9.0.partial-x/venv").mkdir(parents=True)
    (place.root / "a file").touch()
    agent_pruning.prune(place.settings, place.look())
    assert list((place.root / "toy").glob(".*partial*")) == []


def test_what_is_needed_by_now_stays(place: Place) -> None:
    asked = place.look()
    place.went("2.0", "3.0")
    done = agent_pruning.prune(place.settings, asked)
    assert names(done.removed) == ["toy 1.0", "toy 1.0.1"]
    assert (place.root / "toy/2.0").is_dir()


def test_without_a_configuration_nothing_goes(
    place: Place, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    nothing = load(None, environment=Environment({"HOME": "/nowhere"}), data=place.folder / "data")
    with pytest.raises(ConfigError, match="all would go"):
        agent_pruning.look(nothing)
