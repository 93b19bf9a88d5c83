"""What a node is told that its agent could go back to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relit.api.volumes_local import LocalVolumes
from relit.app import rescue
from relit.control.care import ConfigFile, KnownGood
from relit.errors import VolumeTooLarge
from relit.settings import Settings

AGENT = "clerk"
FILES = [ConfigFile(path="a.json", format="json", keep={"port": 7}), ConfigFile(path="b.yaml", format="yaml")]


@pytest.fixture
def home(settings: Settings) -> Path:
    home = settings.data / "agents" / AGENT / "home"
    (home / "a.json").write_text('{"is": "first"}\n')
    (home / "b.yaml").write_text("b: 1\n")
    return home


async def test_an_agent_without_a_volume_can_go_nowhere(volumes: LocalVolumes) -> None:
    assert await rescue.known_good(volumes, "nobody", FILES) == KnownGood()


async def test_the_newest_known_good_one_counts(volumes: LocalVolumes, home: Path) -> None:
    await rescue.mark_good(volumes, AGENT)
    (home / "a.json").write_text('{"is": "second"}\n')
    number = await rescue.mark_good(volumes, AGENT)
    (home / "a.json").write_text('{"is": "broken"}\n')
    found = await rescue.known_good(volumes, AGENT, FILES)
    assert (found.number, [each for each, _ in found.older], found.was) == (number, [1], 0)
    assert list(found.config) == ["a.json"]
    assert '-{"is": "second"}\n+{"is": "broken"}' in found.config["a.json"]
    went = await rescue.go_back(volumes, AGENT, found.number, ["a.json"])
    assert (home / "a.json").read_text() == '{"is": "second"}\n'
    assert (went.to, went.written) == (number, 1)


async def test_before_the_first_known_good_one_it_is_what_it_was_last(volumes: LocalVolumes, home: Path) -> None:
    (home / "a.json").write_text('{"is": "second"}\n')
    await volumes.snapshot(AGENT)
    (home / "other").write_text("unchanged configuration")
    await volumes.snapshot(AGENT)
    (home / "a.json").write_text('{"is": "broken"}\n')
    await volumes.snapshot(AGENT)
    assert (await rescue.known_good(volumes, AGENT, FILES)).config == {}, "nobody says that it is broken"
    found = await rescue.known_good(volumes, AGENT, FILES, broken=True)
    assert (found.number, found.was) == (0, 3)
    assert '-{"is": "second"}\n+{"is": "broken"}' in found.config["a.json"]


async def test_one_that_is_as_broken_in_the_known_good_one_becomes_what_it_was_before(
    volumes: LocalVolumes, home: Path
) -> None:
    await volumes.snapshot(AGENT)
    (home / "a.json").write_text('{"is": "broken"}\n')
    number = await rescue.mark_good(volumes, AGENT)
    (home / "other").write_text("work")
    found = await rescue.known_good(volumes, AGENT, FILES, broken=True)
    assert (found.number, found.was, [each for each, _ in found.others]) == (number, 1, [1])
    assert '-{"is": "first"}\n+{"is": "broken"}' in found.config["a.json"]
    spared = await rescue.known_good(volumes, AGENT, FILES)
    assert (spared.number, spared.was, spared.config) == (number, 0, {}), "nobody says that it is broken"


async def test_what_was_never_another_has_nothing_to_go_back_to(volumes: LocalVolumes) -> None:
    found = await rescue.known_good(volumes, AGENT, FILES)
    assert (found.number, found.was, found.config, found.newest) == (0, 0, {}, 1)


async def test_a_file_of_which_only_the_time_is_another_is_the_same(volumes: LocalVolumes, home: Path) -> None:
    await rescue.mark_good(volumes, AGENT)
    (home / "a.json").write_text(FIRST)
    (home / "b.yaml").chmod(0o600)
    assert list((await rescue.known_good(volumes, AGENT, FILES)).config) == ["b.yaml"]


async def test_a_snapshot_that_cannot_be_taken_hides_none_that_was(
    volumes: LocalVolumes, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await rescue.mark_good(volumes, AGENT)
    (home / "a.json").write_text('{"is": "broken"}\n')

    async def refused(*_: object, **__: object) -> None:
        raise VolumeTooLarge("it is over its limits")

    monkeypatch.setattr(volumes, "snapshot", refused)
    found = await rescue.known_good(volumes, AGENT, FILES)
    assert (found.number, list(found.config)) == (number, ["a.json"])
    assert found.newest != number, "as it is now, it is none of those"
    assert found.why == "no snapshot could be taken: it is over its limits"


FIRST, REFUSED, UNREAD, LATE = (
    '{"is": "first"}\n',
    '{"is": "refused"}',
    "{ cut",
    '{\n  "is": "refused",\n  "port": 7\n}\n',
)


async def found_broken(volumes: LocalVolumes, home: Path, text: str, before: KnownGood | None = None) -> KnownGood:
    """As the node asks when its agent has ended on that configuration."""
    (home / "a.json").write_text(text)
    return await rescue.known_good(volumes, AGENT, FILES, broken=True, before=before.broken if before else [])


async def said(volumes: LocalVolumes, number: int) -> str:
    return b"".join([each async for each in volumes.cat(AGENT, str(number), b"a.json")]).decode()


@pytest.mark.parametrize(("one", "other"), [(REFUSED, UNREAD), (UNREAD, REFUSED), (UNREAD, "[1]")])
async def test_one_that_is_ruined_in_two_ways_does_not_go_from_one_to_the_other(
    volumes: LocalVolumes, home: Path, one: str, other: str
) -> None:
    """The way back from the first ruin has left a snapshot of it."""
    await volumes.snapshot(AGENT)
    found = await found_broken(volumes, home, one)
    assert found.was == 1
    await rescue.go_back(volumes, AGENT, 1, ["a.json"])
    again = await found_broken(volumes, home, other, found)
    assert (await said(volumes, again.was), list(again.config)) == (FIRST, ["a.json"])
    for ruin in (one, other):  # and whichever comes next
        again = await found_broken(volumes, home, ruin, again)
        assert await said(volumes, again.was) == FIRST
    assert len(again.broken) == (2 if REFUSED in (one, other) else 1), "each once; what nobody can read is one"


async def test_what_was_refused_in_this_trouble_is_passed_over_however_it_is_written(
    volumes: LocalVolumes, home: Path
) -> None:
    """What relit sees to before a start makes it no other one."""
    await volumes.snapshot(AGENT)
    found = await found_broken(volumes, home, REFUSED)
    (home / "a.json").write_text(LATE)
    await volumes.snapshot(AGENT)
    again = await found_broken(volumes, home, '{"is": "refused", "too": 1}', found)
    assert (again.was, len(again.broken)) == (1, 2)


async def test_a_known_good_one_that_was_refused_makes_way_for_an_older_one(volumes: LocalVolumes, home: Path) -> None:
    await volumes.snapshot(AGENT)
    (home / "a.json").write_text(REFUSED)
    good = await rescue.mark_good(volumes, AGENT)
    found = await found_broken(volumes, home, REFUSED)
    assert (found.number, found.was) == (good, 1)
    again = await found_broken(volumes, home, '{"is": "refused", "too": 1}', found)
    assert (again.number, again.was) == (good, 1), "not to and fro"


@pytest.mark.parametrize("proven", [True, False])
async def test_when_all_were_refused_its_owners_stays(volumes: LocalVolumes, home: Path, proven: bool) -> None:
    await (rescue.mark_good(volumes, AGENT) if proven else volumes.snapshot(AGENT))
    newest = await found_broken(volumes, home, REFUSED)
    oldest = await found_broken(volumes, home, FIRST, newest)
    assert await said(volumes, oldest.was) == REFUSED
    await rescue.go_back(volumes, AGENT, oldest.was, ["a.json"])
    stays = await rescue.known_good(volumes, AGENT, FILES, broken=True, before=oldest.broken)
    assert stays.config == {}


async def test_what_was_wrong_is_known_by_what_it_said_and_the_owners_has_a_name_that_keeps_it(
    volumes: LocalVolumes, home: Path
) -> None:
    """Snapshots of an hour ago are thinned out; of those with one configuration another one may remain."""
    (home / "a.json").write_text(REFUSED)
    same = (await volumes.snapshot(AGENT)).snapshot.number
    (home / "a.json").write_text(FIRST)
    await volumes.snapshot(AGENT)
    found = KnownGood()
    for number in range(30):
        found = await found_broken(volumes, home, json.dumps({"is": number}), found)
        found = await found_broken(volumes, home, REFUSED, found)
    assert len(found.broken) == 31
    owners = (await volumes.resolve(AGENT, "refused")).number
    assert json.loads(await said(volumes, owners)) == {"is": 0}
    (home / "a.json").write_text(UNREAD)
    again = await rescue.known_good(volumes, AGENT, FILES, broken=True, before=found.broken)
    assert await said(volumes, again.was) == FIRST
    assert again.was != same


async def test_what_is_known_of_a_trouble_outlives_a_death_of_another_kind(volumes: LocalVolumes, home: Path) -> None:
    found = await rescue.known_good(volumes, AGENT, FILES, broken=False, before=["a", "b"])
    assert found.broken == ["a", "b"]
