"""What volumes answer, in a data folder without a server: paths, names, tags, what is thrown away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from relit.api.volumes_local import LocalVolumes
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.errors import Conflict, Invalid, NotFound, WaitTimeout
from relit.manifest import Snapshot
from relit.settings import Settings
from relit.store.sql.sqlite.store import SqliteStore

AGENT = "clerk"


@pytest.fixture
def home(settings: Settings) -> Path:
    home = settings.data / "agents" / AGENT / "home"
    (home / "notes").mkdir()
    (home / "notes" / "plan.md").write_text("one")
    (home / "state.db").write_text("one")
    return home


async def numbers(volumes: LocalVolumes) -> list[int]:
    return [each.number for each in (await volumes.log(AGENT)).snapshots]


@pytest.mark.parametrize(
    ("path", "meant"),
    [(b"note", "notes"), (b"notes/plan", "notes/plan.md"), (b"nots/deep/plan.md", "notes"), (b"x", "")],
)
async def test_a_path_that_never_was_is_told_and_nothing_is_done(
    volumes: LocalVolumes, path: bytes, meant: str
) -> None:
    for dry_run in (True, False):
        with pytest.raises(NotFound, match="has no") as missing:
            await volumes.restore(AGENT, "1", [b"notes", path], dry_run=dry_run)
        assert (f"did you mean {meant}?" if meant else "") == missing.value.why
    assert await numbers(volumes) == [1]


async def test_a_path_that_came_since_goes_only_when_that_is_said(volumes: LocalVolumes, home: Path) -> None:
    (home / "notes" / "new").write_text("since")
    with pytest.raises(NotFound, match="has no notes/new") as missing:
        await volumes.restore(AGENT, "1", [b"notes/new"])
    assert "--exact" in missing.value.why
    done = await volumes.restore(AGENT, "1", [b"notes/new"], exact=True)
    assert done.removed == ["notes/new"]
    assert not (home / "notes" / "new").exists()


async def test_what_could_not_be_put_back_is_in_the_answer(volumes: LocalVolumes, home: Path) -> None:
    (home / "since").mkdir()
    os.mkfifo(home / "since" / "fifo")
    for dry_run in (True, False):
        done = await volumes.restore(AGENT, "1", dry_run=dry_run)
        assert done.removed == []
        assert [(each.path, each.why.partition(":")[0]) for each in done.skipped] == [("since", "stays")]
        assert done.replaced == ""


@pytest.mark.parametrize("name", ["../../evil", "", "Clerk", "-x", "a" * 64, "a\n"])
async def test_a_fork_needs_a_name_that_an_agent_can_have(volumes: LocalVolumes, settings: Settings, name: str) -> None:
    before = sorted(settings.data.parent.rglob("*"))
    with pytest.raises(Invalid, match="no name for an agent") as refused:
        await volumes.fork(AGENT, name, "1")
    assert "a-z" in refused.value.why
    assert sorted(settings.data.parent.rglob("*")) == before


async def test_a_fork_to_a_home_that_was_made_in_advance_says_what_to_do(
    volumes: LocalVolumes, settings: Settings
) -> None:
    (settings.data / "agents" / "eve" / "home").mkdir(parents=True)
    await volumes.snapshot("eve")
    with pytest.raises(Conflict) as taken:
        await volumes.fork(AGENT, "eve", "1")
    assert "relit volume rm eve" in taken.value.fix
    await volumes.remove("eve")
    assert (await volumes.fork(AGENT, "eve", "1")).origin == f"{AGENT}@1"


async def test_a_tag_that_is_not_there_is_not_removed(volumes: LocalVolumes) -> None:
    with pytest.raises(NotFound, match="no tag nosuch"):
        await volumes.tag(AGENT, "1", "nosuch", remove=True)
    await volumes.tag(AGENT, "1", "v1")
    assert (await volumes.tag(AGENT, "1", "v1", remove=True)).tags == []


async def test_a_snapshot_amid_a_run_is_not_known_to_be_good(
    volumes: LocalVolumes, settings: Settings, home: Path
) -> None:
    assert (await volumes.tag(AGENT, "1", "known-good")).tags == ["known-good"]
    store = SqliteStore(settings.data / "relit.db")
    await store.start()
    try:
        await Engine(store, Payloads()).send(AGENT, "a message")
        with pytest.raises(Conflict, match="snapshot 2 of clerk is not tagged known-good") as refused:
            await volumes.snapshot(AGENT, tag="known-good")
        assert "--force" in refused.value.fix
        assert not (await volumes.resolve(AGENT, "2")).quiescent
        with pytest.raises(Conflict, match="unfinished"):
            await volumes.tag(AGENT, "2", "known-good")
        assert (await volumes.tag(AGENT, "2", "known-good", force=True)).tags == ["known-good"]
        assert (await volumes.tag(AGENT, "2", "v1")).tags == ["known-good", "v1"]
    finally:
        await store.stop()


async def test_a_snapshot_that_is_not_there_is_told_with_the_agent(volumes: LocalVolumes) -> None:
    with pytest.raises(NotFound, match="no snapshot 77 of clerk") as missing:
        await volumes.resolve(AGENT, "77")
    assert missing.value.fix == "relit volume log clerk"


async def test_a_home_that_is_gone_is_listed_as_trouble_until_it_is_back(volumes: LocalVolumes, home: Path) -> None:
    assert [each.error for each in (await volumes.list()).volumes] == [""]
    shutil.rmtree(home)
    [listed] = (await volumes.list()).volumes
    assert "is gone" in listed.error
    assert f"relit volume restore {AGENT} --at now" in listed.error
    await volumes.restore(AGENT, "now")
    assert (home / "notes" / "plan.md").read_text() == "one"
    assert [each.error for each in (await volumes.list()).volumes] == [""]


async def test_what_is_thrown_away_is_told_with_where_it_lies(volumes: LocalVolumes, home: Path) -> None:
    stays = await volumes.remove(AGENT)
    assert (stays.home, stays.put_away) == (str(home), False)
    await volumes.snapshot(AGENT)
    away = await volumes.remove(AGENT, home=True)
    assert away.put_away
    assert (Path(away.home) / "state.db").read_text() == "one"
    assert not home.exists()
    assert (await volumes.list()).volumes == []


async def test_a_blob_store_that_takes_nothing_is_told_after_a_while(
    volumes: LocalVolumes, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing() -> list[Snapshot]:
        return []

    (home / "state.db").write_text("two")
    monkeypatch.setattr(volumes._uploads, "flush", nothing)
    monkeypatch.setattr("relit.api.volumes_local._STORED_S", 0.1)
    with pytest.raises(WaitTimeout, match="snapshot 2 is not in the blob store") as late:
        await volumes.snapshot(AGENT, wait="stored")
    assert late.value.retry
    assert await numbers(volumes) == [2, 1], "it was taken all the same"
