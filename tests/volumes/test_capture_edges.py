"""What a home may hold and a snapshot cannot, limits, and snapshots that fail: nothing is lost by any of them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kit import AGENT, Kit, noise, running
from shapes import difference, shape

from relit.errors import NotFound, Overtaken, VolumeTooLarge
from relit.manifest import Commit, Delta, Snapshot
from relit.store.sql.catalog import SqlCatalog
from relit.volumes import look, lookout
from relit.volumes.disk import remove_tree
from relit.volumes.limits import Limits
from relit.volumes.reading import Reader


def needs_root() -> None:
    """Devices and mounts are root's."""
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true"
        pytest.skip("needs root")


async def test_sockets_fifos_and_devices_are_left_out_and_told(watched: Kit) -> None:
    needs_root()
    home = watched.home()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "s"))
        os.mkfifo(home / "f")
        os.mknod(home / "d", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        (home / "note").write_text("1")
        first = await watched.take()
        assert {each.path: each.why for each in first.skipped} == {b"s": "a socket", b"f": "a FIFO", b"d": "a device"}
        assert set(await watched.tree(1)) == {b"", b"note"}
        (home / "note").write_text("2")
        assert (await watched.take()).skipped == first.skipped, "told again, though nothing happened to them"
    (home / "f").unlink()
    (home / "f").write_text("a file now")
    os.mkfifo(home / "further")
    assert [each.path for each in (await watched.take()).skipped] == [b"d", b"further", b"s"]
    assert b"f" in await watched.tree(3)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Root reads everything, except what another has a lease on."""
    fd = os.open(path, os.O_RDWR)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    fcntl.fcntl(fd, fcntl.F_SETSIG, 23)  # SIGURG: ignored by default
    try:
        yield
    finally:
        os.close(fd)


async def test_a_file_that_cannot_be_read_is_told_until_it_can(watched: Kit) -> None:
    home = watched.home()
    (home / "note").write_text("1")
    (home / "shut").write_text("secret")
    with unreadable(home / "shut"):
        assert [each.path for each in (await watched.take()).skipped] == [b"shut"]
        (home / "note").write_text("2")
        assert [each.path for each in (await watched.take()).skipped] == [b"shut"]
    assert (await watched.take()).skipped == []
    assert b"shut" in await watched.tree(3)


async def test_a_filesystem_mounted_in_a_home_is_left_out(watched: Kit) -> None:
    needs_root()
    home = watched.home()
    (home / "mnt").mkdir()
    (home / "mnt" / "below").write_text("hidden by the mount")
    await watched.take()
    subprocess.run(["mount", "-t", "tmpfs", "none", home / "mnt"], check=True)
    try:
        (home / "mnt" / "other").write_text("of another filesystem")
        (home / "note").write_text("1")
        taken = await watched.take()
        assert [each.why for each in taken.skipped] in ([], ["another filesystem is mounted there"])
        assert b"mnt/other" not in await watched.tree(taken.number)
    finally:
        subprocess.run(["umount", home / "mnt"], check=True)


async def test_what_becomes_ignored_leaves_the_next_snapshot_and_comes_back(watched: Kit) -> None:
    home = watched.home()
    (home / "cache" / "deep").mkdir(parents=True)
    (home / "cache" / "deep" / "big").write_text("x")
    (home / "keep").write_text("y")
    (home / "state.db-shm").write_text("never")
    await watched.take()
    assert set(await watched.tree(1)) == {b"", b"cache", b"cache/deep", b"cache/deep/big", b"keep"}
    (home / ".relitignore").write_text("cache/\n")
    await watched.take()
    assert set(await watched.tree(2)) == {b"", b".relitignore", b"keep"}
    (home / "cache" / "deep" / "more").write_text("z")
    (home / ".relitignore").unlink()
    await watched.take()
    assert set(await watched.tree(3)) == {b"", b"cache", b"cache/deep", b"cache/deep/big", b"cache/deep/more", b"keep"}


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "link", "huge"])
async def test_an_odd_relitignore_leaves_nothing_out(volumes: Kit, kind: str) -> None:
    needs_root()
    place = volumes.home() / ".relitignore"
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "device":
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    elif kind == "link":
        (volumes.base / "elsewhere").write_text("*\n")
        place.symlink_to(volumes.base / "elsewhere")
    else:
        os.truncate(os.open(place, os.O_CREAT | os.O_RDWR), 1 << 40)
    (volumes.home() / "note").write_text("1")
    open_before = len(os.listdir("/proc/self/fd"))
    if kind == "huge":
        with pytest.raises(VolumeTooLarge):
            await volumes.take()
        return
    for _ in range(10):
        await volumes.take()
    assert b"note" in await volumes.tree(1)
    assert len(os.listdir("/proc/self/fd")) < open_before + 10


async def test_patterns_of_the_kind_and_relitignore_are_both_left_out(tmp_path: Path) -> None:
    async with running(Kit(tmp_path, patterns=("*.log", "tmp/**"))) as kit:
        (kit.home() / "tmp" / "x").mkdir(parents=True)
        for name in ("a.log", "b", "c.bak", "tmp/x/y"):
            (kit.home() / name).write_text("1")
        (kit.home() / ".relitignore").write_text("*.bak\n")
        await kit.take()
        assert set(await kit.tree(1)) == {b"", b".relitignore", b"b", b"tmp"}


async def test_a_home_over_its_limits_is_not_read_and_packed_round_after_round(tmp_path: Path) -> None:
    async with running(Kit(tmp_path, limits=Limits(bytes=1_000_000))) as kit:
        home = kit.home()
        home.mkdir(parents=True)
        (home / "little").write_text("1")
        await kit.take()
        (home / "model").write_bytes(noise(9 << 20))
        packed = kit.spool.waiting()
        for _ in range(2):
            with pytest.raises(VolumeTooLarge, match=r"biggest: model 9\.0M"):
                await kit.take()
        assert kit.spool.waiting() == packed
        (home / "model").unlink()
        os.link(home / "little", home / "again")
        assert await kit.take() is not None


@pytest.mark.parametrize("limits", [Limits(bytes=100_000), Limits(files=5)])
async def test_a_home_over_its_limits_is_refused_by_an_error_that_names_the_biggest(
    tmp_path: Path, limits: Limits
) -> None:
    async with running(Kit(tmp_path, limits=limits)) as kit:
        home = kit.home()
        home.mkdir(parents=True)
        (home / "little").write_text("1")
        await kit.take()
        for no in range(6):
            (home / f"huge{no}").write_bytes(noise(60_000 + no))
        (home / "many").mkdir()
        for no in range(3):
            (home / "many" / str(no)).touch()
        with pytest.raises(VolumeTooLarge) as refused:
            await kit.take()
        named = "the biggest: huge5 58.6K" if limits.bytes == 100_000 else "most are in: . 8, many 3"
        assert named in refused.value.why
        assert ".relitignore" in refused.value.fix
        (home / ".relitignore").write_text("huge*\nmany\n")
        await kit.take()
        assert set(await kit.tree(2)) == {b"", b".relitignore", b"little"}


def dig(home: Path, name: str, depth: int) -> None:
    """Folders in folders, deeper than any path can name."""
    here = os.open(home, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


async def test_a_path_too_long_to_name_is_told(watched: Kit) -> None:
    dig(watched.home(), "d" * 200, 25)
    taken = await watched.take()
    assert [each.why for each in taken.skipped] == ["its path is too long"]
    assert max(map(len, await watched.tree(taken.number))) == 20 * 201 - 1
    await watched.lay(taken.number, watched.base / "laid")
    for folder in (watched.home(), watched.base / "laid"):
        remove_tree(folder)
        assert not folder.exists()


async def test_a_tree_may_be_as_deep_as_a_path_is_long(volumes: Kit) -> None:
    dig(volumes.home(), "d", 1200)
    try:
        taken = await volumes.take()
        assert len(await volumes.tree(taken.number)) == 1201
        going = await volumes.homes.restore(AGENT, taken.number)
        await volumes.uploader.flush()
        checked = await volumes.verifier.verify()
        assert checked.damage == []
        assert going.after is not None
        assert checked.restored == [(AGENT, going.after.number)]
    finally:
        remove_tree(volumes.home())  # pytest cannot


async def test_an_unchanged_home_makes_no_snapshot_unless_one_is_wanted(watched: Kit) -> None:
    (watched.home() / "note").write_text("1")
    first = await watched.take()
    assert (await watched.take()).number == first.number
    os.utime(watched.home() / "note", ns=(1, 1))
    os.utime(watched.home() / "note", ns=(1, first.at_ms))
    assert (await watched.take(always=True)).number == 2


class OvertakenCatalog:
    """A catalog in which another commit comes first, some times."""

    def __init__(self, inner: SqlCatalog, times: int) -> None:
        self._inner = inner
        self.times = times
        self.staged = 0

    async def commit(self, commit: Commit) -> Snapshot:
        if self.times:
            self.times -= 1
            raise Overtaken("another was first")
        return await self._inner.commit(commit)

    async def stage(self, volume: str, number: int, delta: Delta) -> None:
        self.staged += 1
        await self._inner.stage(volume, number, delta)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


async def with_catalog(kit: Kit, times: int) -> OvertakenCatalog:
    """The kit's homes, from now on over such a catalog."""
    await kit.take(always=True)
    made = OvertakenCatalog(kit.catalog, times)
    for capture in kit.homes._captures.values():
        capture._catalog = made  # type: ignore[assignment]
    return made


async def test_a_snapshot_that_was_overtaken_is_tried_again_from_what_is_there(watched: Kit) -> None:
    home = watched.home()
    catalog = await with_catalog(watched, 1)
    (home / "note").write_text("1")
    taken = await watched.take()
    assert catalog.times == 0
    assert b"note" in await watched.tree(taken.number)


async def test_after_failed_commits_the_next_snapshot_is_complete(watched: Kit) -> None:
    home = watched.home()
    catalog = await with_catalog(watched, 9)
    (home / "note").write_bytes(noise(100_000))
    for _ in range(3):
        with pytest.raises(Overtaken):
            await watched.take()
        (home / "other").write_text(str(catalog.times))
    taken = await watched.take()
    laid = await watched.lay(taken.number, watched.base / "laid")
    assert difference(shape(laid), shape(home)) == {}


async def test_another_nodes_commit_in_between_is_taken_over(watched: Kit) -> None:
    (watched.home() / "note").write_text("1")
    first = await watched.take()
    (watched.home() / "other").write_text("2")
    theirs = Snapshot(id="theirs", volume=first.volume, number=2, at_ms=first.at_ms, reason="request")
    await watched.catalog.commit(Commit(snapshot=theirs, delta=Delta(gone=[b"note"]), at=None))
    assert (await watched.take()).number == 3
    assert set(await watched.tree(3)) == {b"", b"note", b"other"}


def many_files(home: Path, count: int) -> None:
    (home / "many").mkdir()
    for no in range(count):
        (home / "many" / f"{no:05}").write_text(str(no))


async def test_a_large_change_is_staged_and_complete_after_a_failure(volumes: Kit) -> None:
    home = volumes.home()
    catalog = await with_catalog(volumes, 3)
    many_files(home, 6000)
    with pytest.raises(Overtaken):
        await volumes.take()
    assert catalog.staged >= 6
    assert set(await volumes.tree(2)) == {b""}
    assert await volumes.numbers() == [1]
    taken = await volumes.take()
    assert taken.number == 2
    assert len(await volumes.tree(2)) == 6002
    shutil.rmtree(home / "many")
    await volumes.take()
    assert set(await volumes.tree(3)) == {b""}
    assert len(await volumes.tree(2)) == 6002


async def test_what_was_staged_by_a_process_that_died_is_taken_back(tmp_path: Path) -> None:
    first = Kit(tmp_path)
    await first.start()
    first.home().mkdir(parents=True)
    (first.home() / "keep").write_text("1")
    (first.home() / "lost").write_text("1")
    taken = await first.take()
    entries = await first.tree(1)
    delta = Delta(entries=[entries[b"keep"]], gone=[b"lost"])
    await first.catalog.stage(taken.volume, 2, delta)
    await first.stop(seal=False)
    async with running(Kit(tmp_path)) as second:
        assert await second.take() == taken, "nothing has changed since"
        (second.home() / "new").write_text("2")
        await second.take()
        assert set(await second.tree(1)) == {b"", b"keep", b"lost"}
        assert set(await second.tree(2)) == {b"", b"keep", b"lost", b"new"}


async def test_a_restart_reads_again_only_what_was_touched_as_its_reading_began(tmp_path: Path) -> None:
    first = Kit(tmp_path)
    await first.start()
    first.home().mkdir(parents=True)
    (first.home() / "old").write_text("1")
    await asyncio.sleep(0.1)  # further apart than any kernel's clock ticks
    (first.home() / "young").write_text("1")
    await first.take()
    await first.stop(seal=False)
    async with running(Kit(tmp_path)) as second:
        with unreadable(second.home() / "old"), unreadable(second.home() / "young"):
            assert [each.path for each in (await second.take(always=True)).skipped] == [b"young"]


async def test_after_a_restore_only_what_it_touched_is_looked_at_and_the_next_snapshot_sees_all(
    volumes: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = volumes.home()
    for folder in ("folder", "quiet"):
        (home / folder).mkdir()
    for name in ("quiet/note", "folder/back", "gone"):
        (home / name).write_text("1")
    first = await volumes.take()
    (home / "folder" / "back").write_text("2")
    (home / "gone").unlink()
    (home / "new").write_text("2")
    sweeps = []
    real = look.sweep
    monkeypatch.setattr(lookout, "sweep", lambda *given: sweeps.append(1) or real(*given))
    volumes.still.before = lambda: (home / "quiet" / "note").write_text("by a stranger")
    done = await volumes.homes.restore(AGENT, 1)
    assert len(sweeps) == 1, "for the snapshot before"
    volumes.still.before = lambda: None
    assert done.after is not None
    changed = await volumes.catalog.changes(first.volume, 1, done.after.number)
    assert {each.path for each in changed if each.before is None or each.after is None} == set()
    assert (await volumes.tree(done.after.number))[b"quiet/note"].size == 1
    taken = await volumes.take()
    assert (await volumes.tree(taken.number))[b"quiet/note"].size == len("by a stranger")


async def test_a_file_that_is_much_larger_when_it_is_read_than_when_it_was_looked_at(
    watched: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = watched.home()
    (home / "note").write_text("1")
    await watched.take()
    real = Reader.see

    def see(self: Reader, *given: Any, **named: Any) -> Any:
        (home / "note").write_bytes(noise(20 << 20))
        return real(self, *given, **named)

    (home / "note").write_text("2")
    monkeypatch.setattr(Reader, "see", see)
    async with asyncio.timeout(60):
        taken = await watched.take()
    assert taken.bytes == 20 << 20


async def test_a_cancelled_snapshot_is_none_and_the_next_one_is_complete(watched: Kit) -> None:
    home = watched.home()
    for no in range(40):
        (home / f"file{no}").write_bytes(noise(1 << 20, no))
    for wait in (0.001, 0.01, 0.03, 0.1):
        task = asyncio.get_running_loop().create_task(watched.take())
        await asyncio.sleep(wait)
        task.cancel()
        await asyncio.wait([task])
        assert not watched.still.frozen
    await watched.take(always=True)
    laid = await watched.lay((await watched.volume()).newest, watched.base / "laid")
    assert difference(shape(laid), shape(home)) == {}
    await watched.uploader.flush()
    assert (await watched.verifier.verify()).damage == []


async def test_a_home_that_goes_is_an_error_and_one_that_comes_is_watched(watched: Kit) -> None:
    home = watched.home()
    (home / "note").write_text("1")
    await watched.take()
    home.rename(watched.base / "away")
    with pytest.raises(NotFound, match="is gone"):
        await watched.take()
    shutil.copytree(watched.base / "away", home)
    await watched.take()
    (home / "note").write_text("2, in the new one")
    (home / "fresh").write_text("3")
    taken = await watched.take()
    laid = await watched.lay(taken.number, watched.base / "laid")
    assert difference(shape(laid), shape(home)) == {}
