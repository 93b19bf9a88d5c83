"""What a node is told that its agent could go back to."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.api.volumes_local import LocalVolumes
from relit.app import rescue
from relit.control.care import KnownGood
from relit.errors import VolumeTooLarge
from relit.settings import Settings

AGENT = "clerk"
FILES = ["a.json", "b.yaml"]


@pytest.fixture
def home(settings: Settings) -> Path:
    home = settings.data / "agents" / AGENT / "home"
    (home / "a.json").write_text("first\n")
    (home / "b.yaml").write_text("b\n")
    return home


async def test_an_agent_without_a_volume_can_go_nowhere(volumes: LocalVolumes) -> None:
    assert await rescue.known_good(volumes, "nobody", FILES) == KnownGood()


async def test_the_newest_known_good_one_counts(volumes: LocalVolumes, home: Path) -> None:
    await rescue.mark_good(volumes, AGENT)
    (home / "a.json").write_text("second\n")
    number = await rescue.mark_good(volumes, AGENT)
    (home / "a.json").write_text("broken\n")
    found = await rescue.known_good(volumes, AGENT, FILES)
    assert (found.number, [each for each, _ in found.older], found.was) == (number, [1], 0)
    assert list(found.config) == ["a.json"]
    assert "-second\n+broken" in found.config["a.json"]
    went = await rescue.go_back(volumes, AGENT, found.number, ["a.json"])
    assert (home / "a.json").read_text() == "second\n"
    assert (went.to, went.written) == (number, 1)


async def test_before_the_first_known_good_one_it_is_what_it_was_last(volumes: LocalVolumes, home: Path) -> None:
    (home / "a.json").write_text("second\n")
    await volumes.snapshot(AGENT)
    (home / "other").write_text("unchanged configuration")
    await volumes.snapshot(AGENT)
    (home / "a.json").write_text("broken\n")
    await volumes.snapshot(AGENT)
    assert (await rescue.known_good(volumes, AGENT, FILES)).config == {}, "nobody says that it is broken"
    found = await rescue.known_good(volumes, AGENT, FILES, broken=True)
    assert (found.number, found.was) == (0, 3)
    assert "-second\n+broken" in found.config["a.json"]


async def test_one_that_is_as_broken_in_the_known_good_one_becomes_what_it_was_before(
    volumes: LocalVolumes, home: Path
) -> None:
    await volumes.snapshot(AGENT)
    (home / "a.json").write_text("broken\n")
    number = await rescue.mark_good(volumes, AGENT)
    (home / "other").write_text("work")
    found = await rescue.known_good(volumes, AGENT, FILES, broken=True)
    assert (found.number, found.was, [each for each, _ in found.others]) == (number, 1, [1])
    assert "-first\n+broken" in found.config["a.json"]
    spared = await rescue.known_good(volumes, AGENT, FILES)
    assert (spared.number, spared.was, spared.config) == (number, 0, {}), "nobody says that it is broken"


async def test_what_was_never_another_has_nothing_to_go_back_to(volumes: LocalVolumes) -> None:
    found = await rescue.known_good(volumes, AGENT, FILES)
    assert (found.number, found.was, found.config, found.newest) == (0, 0, {}, 1)


async def test_a_snapshot_that_cannot_be_taken_hides_none_that_was(
    volumes: LocalVolumes, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await rescue.mark_good(volumes, AGENT)
    (home / "a.json").write_text("broken\n")

    async def refused(*_: object, **__: object) -> None:
        raise VolumeTooLarge("it is over its limits")

    monkeypatch.setattr(volumes, "snapshot", refused)
    found = await rescue.known_good(volumes, AGENT, FILES)
    assert (found.number, list(found.config)) == (number, ["a.json"])
    assert found.newest != number, "as it is now, it is none of those"
    assert found.why == "no snapshot could be taken: it is over its limits"
