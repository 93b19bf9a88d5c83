"""Homes: restarts, restores and their undoing, forks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import apsw
import pytest
from kit import AGENT, HOUR, Kit, noise, running
from shapes import Shape, difference, shape

from relit.errors import Conflict, NotFound, VolumeError


def in_database(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def first_version(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "deep").mkdir()
    (home / "deep" / "note").write_text("one")
    (home / "deep" / "same").write_bytes(noise(200_000))
    (home / "gone").write_text("only in one")
    os.link(home / "deep" / "note", home / "also")
    (home / "link").symlink_to("deep")
    in_database(home / "a.db", "CREATE TABLE t(x)", "INSERT INTO t VALUES(randomblob(500000))")
    (home / "a.db-wal").write_bytes(noise(40_000, 2))


def second_version(home: Path) -> None:
    (home / "deep" / "note").write_text("two")
    (home / "gone").unlink()
    (home / "link").unlink()
    (home / "link").mkdir()
    (home / "link" / "new").write_text("only in two")
    in_database(home / "a.db", "INSERT INTO t VALUES(randomblob(30000))")
    (home / "a.db-wal").unlink(missing_ok=True)
    (home / "deep").chmod(0o500)


async def two_versions(kit: Kit) -> tuple[Shape, Shape]:
    """Snapshots 1 and 2, and what they hold."""
    first_version(kit.home())
    await kit.take()
    one = shape(kit.home())
    second_version(kit.home())
    await kit.take()
    return one, shape(kit.home())


async def test_a_restart_goes_on_where_the_last_process_stopped(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        one, _ = await two_versions(kit)
    async with running(Kit(tmp_path)) as kit:
        assert (await kit.take()).number == 2, "nothing has changed since"
        (kit.home() / "third").write_text("3")
        assert (await kit.take()).number == 3
        await kit.uploader.flush()
        for path in (tmp_path / "spool-local").iterdir():
            assert path.suffix == ".open"
        assert difference(shape(await kit.lay(1, tmp_path / "laid")), one) == {}
        assert difference(shape(await kit.lay(3, tmp_path / "three")), shape(kit.home())) == {}


async def test_a_crash_loses_no_committed_snapshot(tmp_path: Path) -> None:
    kit = Kit(tmp_path)
    await kit.start()
    one, two = await two_versions(kit)
    await kit.stop(seal=False)
    async with running(Kit(tmp_path)) as kit:
        for number, wanted in ((1, one), (2, two)):
            assert difference(shape(await kit.lay(number, tmp_path / str(number))), wanted) == {}
        await kit.uploader.flush()
        assert await kit.catalog.unstored("local") == []
        assert (await kit.verifier.verify()).damage == []


async def test_a_restore_brings_a_version_back_and_can_be_undone(watched: Kit) -> None:
    one, two = await two_versions(watched)
    watched.still.running = True
    going = await watched.homes.restore(AGENT, 1)
    assert difference(shape(watched.home()), one) == {}
    assert watched.still.held == []
    assert going.after is not None
    assert (going.before.reason, going.after.reason) == ("before-restore", "restore")
    assert (await watched.take()).number == going.after.number, "the restore itself is no further change"
    await watched.homes.restore(AGENT, going.before.number)
    assert difference(shape(watched.home()), two) == {}


async def test_the_agent_is_held_while_its_files_go_back(volumes: Kit) -> None:
    await two_versions(volumes)
    seen: list[list[str]] = []

    async def look() -> None:
        seen.append([*volumes.still.held])

    await volumes.homes.restore(AGENT, 1, meanwhile=look)
    assert seen == [["restore of snapshot 1"]]
    with pytest.raises(NotFound):
        await volumes.homes.restore(AGENT, 77)
    assert volumes.still.held == []


async def test_only_the_wanted_paths_go_back(watched: Kit) -> None:
    one, two = await two_versions(watched)
    await watched.homes.restore(AGENT, 1, [b"gone", b"a.db"])
    now = shape(watched.home())
    changed = {b"gone", b"a.db", b"a.db-wal"}
    assert {path for path in now if now[path] == one.get(path) and now[path] != two.get(path)} == changed
    assert now.keys() - two.keys() == {b"gone", b"a.db-wal"}


async def test_paths_of_one_hard_linked_file_go_back_without_the_other(watched: Kit) -> None:
    await two_versions(watched)
    (watched.home() / "also").unlink()
    (watched.home() / "also").write_text("three")
    await watched.homes.restore(AGENT, 1, [b"deep/note"])
    assert (watched.home() / "deep" / "note").read_text() == "one"
    assert (watched.home() / "also").read_text() == "three"


async def test_a_preview_tells_what_a_restore_does_and_does_nothing(watched: Kit) -> None:
    _, two = await two_versions(watched)
    told = await watched.homes.preview(AGENT, 1)
    assert difference(shape(watched.home()), two) == {}
    assert await watched.numbers() == [1, 2]
    going = await watched.homes.restore(AGENT, 1)
    assert [each.path for each in told.written] == [each.path for each in going.written]
    assert told.removed == going.removed == [b"link/new"]
    assert {each.path for each in told.adjusted} == {each.path for each in going.adjusted}


async def test_files_that_snapshots_leave_out_outlive_a_restore(tmp_path: Path) -> None:
    async with running(Kit(tmp_path, patterns=("*.log",))) as kit:
        one, _ = await two_versions(kit)
        os.mkfifo(kit.home() / "link" / "fifo")
        (kit.home() / "run.log").write_text("kept")
        (kit.home() / "b.db-shm").write_text("kept")
        await kit.homes.restore(AGENT, 1, [b"deep", b"gone"])
        assert (kit.home() / "run.log").read_text() == "kept"
        assert (kit.home() / "link" / "fifo").exists()
        (kit.home() / "link" / "fifo").unlink()
        await kit.homes.restore(AGENT, 1)
        assert difference(shape(kit.home()), one).keys() <= {b"run.log", b"b.db-shm"}
        assert (kit.home() / "run.log").read_text() == "kept"


async def test_a_home_that_is_gone_is_laid_anew(watched: Kit) -> None:
    one, _ = await two_versions(watched)
    shutil.rmtree(watched.home())
    going = await watched.homes.restore(AGENT, 1)
    assert difference(shape(watched.home()), one) == {}
    assert going.after is not None
    (watched.home() / "deep" / "note").write_text("watched again")
    await watched.take()
    laid = await watched.lay(going.after.number + 1, watched.base / "laid")
    assert (laid / "deep" / "note").read_text() == "watched again"


async def test_single_files_of_a_home_that_is_gone_are_refused(watched: Kit) -> None:
    """Its agent would start on a home of these files alone."""
    await two_versions(watched)
    shutil.rmtree(watched.home())
    for way in (watched.homes.restore, watched.homes.preview):
        with pytest.raises(Conflict, match="single files of ada") as refused:
            await way(AGENT, 1, [b"deep/note", b"gone"])
        assert "--at now" in refused.value.fix
    assert not watched.home().exists()


async def test_a_fork_is_the_same_tree_and_goes_its_own_way(watched: Kit) -> None:
    one, two = await two_versions(watched)
    volume = await watched.homes.fork(AGENT, 1, "eve")
    await watched.homes.laid()
    assert volume.origin == "ada@1"
    assert difference(shape(watched.home("eve")), one) == {}
    (watched.home("eve") / "gone").write_text("eve's")
    (watched.home() / "also").unlink()
    await watched.take("eve")
    await watched.take()
    assert difference(shape(watched.home("eve")), shape(await watched.lay(2, watched.base / "e", "eve"))) == {}
    eve = shape(watched.home("eve"))
    shutil.rmtree(watched.home("eve"))
    await watched.homes.forget(AGENT)
    watched.later.offset += 2 * HOUR
    await watched.uploader.flush()
    await watched.pruner.prune()
    watched.later.offset += 2 * HOUR
    await watched.pruner.prune()
    assert difference(shape(await watched.lay(2, watched.base / "f", "eve")), eve) == {}
    with pytest.raises(NotFound):
        await watched.lay(1, watched.base / "dropped", "eve")
    assert shape(watched.home()).keys() < two.keys()


async def test_a_fork_never_lands_on_files(volumes: Kit) -> None:
    await two_versions(volumes)
    volumes.home("eve").mkdir(parents=True)
    (volumes.home("eve") / "precious").write_text("1")
    with pytest.raises(Conflict):
        await volumes.homes.fork(AGENT, 1, "eve")
    assert [path.name for path in volumes.home("eve").iterdir()] == ["precious"]
    assert [each.name for each in await volumes.catalog.volumes()] == [AGENT]


async def test_forks_rebuild_from_packs_too(volumes: Kit) -> None:
    one, _ = await two_versions(volumes)
    await volumes.homes.fork(AGENT, 1, "eve")
    await volumes.homes.laid()
    (volumes.home("eve") / "more").write_text("2")
    await volumes.take("eve")
    fork = await volumes.volume("eve")
    for snapshot in await volumes.catalog.undescribed("local"):
        await volumes.consolidator.describe(fork, snapshot)
    await volumes.uploader.flush()
    other, done = await volumes.rebuilt(volumes.base / "other")
    try:
        assert done.problems == []
        assert difference(shape(await other.lay(1, volumes.base / "laid", "eve")), one) == {}
        laid = await other.lay(2, volumes.base / "laid2", "eve")
        assert difference(shape(laid), shape(volumes.home("eve"))) == {}
    finally:
        await other.stop()


async def test_what_the_system_refuses_is_told_with_what_was_attempted(volumes: Kit) -> None:
    await two_versions(volumes)
    folder = volumes.home().parent
    shutil.rmtree(folder)
    folder.write_text("a file where the agent's folder was")
    with pytest.raises(VolumeError, match=f"{AGENT} was not put back to snapshot 1"):
        await volumes.homes.restore(AGENT, 1)
    (folder.parent / "eve").write_text("another")
    with pytest.raises(VolumeError, match=f"{AGENT} was not forked to eve"):
        await volumes.homes.fork(AGENT, 1, "eve")
    assert [each.name for each in await volumes.catalog.volumes()] == [AGENT]
    assert volumes.still.held == []
