"""A home that was laid anew: where its files are is noted beside it, no snapshot says it, and none is read again."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from kit import AGENT, Kit, noise, running
from shapes import difference, shape

from relit.manifest import Entry
from relit.volumes.tree import Tree


def fill(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "folder").mkdir()
    (home / "folder" / "a").write_bytes(noise(1_000))
    (home / "long").write_bytes(noise(3_000_000, 1))
    (home / "b").write_bytes(b"b")
    os.link(home / "b", home / "second")
    os.symlink("b", home / "link")


async def lost(kit: Kit, *, to: int) -> None:
    """Its files are gone, and laid anew, so long ago that no file can have been written in the same moment since."""
    shutil.rmtree(kit.home())
    kit.clock.offset = 1000
    await kit.homes.restore(AGENT, to)


async def changed_by(kit: Kit, number: int) -> set[bytes]:
    """The paths that a snapshot's manifest has otherwise than the one before."""
    before, now = await kit.tree(number - 1), await kit.tree(number)
    return {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}


async def test_the_snapshot_of_a_home_laid_anew_changes_nothing_in_the_manifest(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        fill(kit.home())
        first = await kit.take()
        await lost(kit, to=first.number)
        assert await changed_by(kit, 2) == set()


async def test_of_an_older_one_only_what_differs(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        fill(kit.home())
        first = await kit.take()
        (kit.home() / "folder" / "a").write_bytes(b"other")
        (kit.home() / "new").touch()
        await kit.take()
        await lost(kit, to=first.number)
        assert await changed_by(kit, 3) == {b"", b"folder/a", b"new"}


@pytest.mark.parametrize("times", [1, 3])
async def test_no_later_process_reads_what_was_laid(tmp_path: Path, read: list[bytes], times: int) -> None:
    async with running(Kit(tmp_path)) as kit:
        fill(kit.home())
        first = await kit.take()
        for _ in range(times):
            await lost(kit, to=first.number)
        was = shape(kit.home())
    read.clear()
    async with running(Kit(tmp_path)) as kit:
        kit.clock.offset = 1000
        taken = await kit.take()
        assert (taken.number, read) == (1 + times, [])
        (kit.home() / "long").write_bytes(noise(3_000_000, 2))
        (kit.home() / "second").write_bytes(b"c")
        assert (await kit.take()).number == 2 + times
        assert set(read) == {b"b", b"long"}
        assert await changed_by(kit, 2 + times) == {b"b", b"second", b"long"}
        await lost(kit, to=1)
        assert difference(shape(kit.home()), was) == {}
    async with running(Kit(tmp_path)) as kit:
        read.clear()
        assert (await kit.take()).number == 3 + times
        assert read == []


async def test_what_changed_while_nobody_looked_is_read(tmp_path: Path, read: list[bytes]) -> None:
    async with running(Kit(tmp_path)) as kit:
        fill(kit.home())
        await kit.take()
        await lost(kit, to=1)
    found = os.stat(kit.home() / "folder" / "a")
    (kit.home() / "folder" / "a").write_bytes(noise(1_000, 9))
    os.utime(kit.home() / "folder" / "a", ns=(found.st_mtime_ns, found.st_mtime_ns))
    read.clear()
    async with running(Kit(tmp_path)) as kit:
        await kit.take()
        assert read == [b"folder/a"]


@pytest.mark.parametrize("harm", ["cut", "empty", "gone", "rubbish", "of another volume"])
async def test_without_the_note_everything_is_read_once_more(tmp_path: Path, read: list[bytes], harm: str) -> None:
    note = tmp_path / "agents" / AGENT / ".home.laid"
    async with running(Kit(tmp_path)) as kit:
        fill(kit.home())
        await kit.take()
        await lost(kit, to=1)
        if harm == "of another volume":
            await kit.homes.forget(AGENT)
            await kit.take()
            await lost(kit, to=1)
            other = note.read_bytes()
            await kit.homes.forget(AGENT)
            await kit.take()
            await lost(kit, to=1)
            note.write_bytes(other)
    text = note.read_bytes()
    match harm:
        case "cut":
            note.write_bytes(text[:-3])
        case "empty":
            note.write_bytes(b"")
        case "gone":
            note.unlink()
        case "rubbish":
            note.write_bytes(noise(100))
    read.clear()
    async with running(Kit(tmp_path)) as kit:
        await kit.take()
        assert set(read) == {b"b", b"folder/a", b"long"}
        await kit.lay((await kit.volume()).newest, tmp_path / "laid")
        assert difference(shape(tmp_path / "laid"), shape(kit.home())) == {}


async def test_a_fork_is_not_read_and_needs_no_snapshot_of_its_own(tmp_path: Path, read: list[bytes]) -> None:
    async with running(Kit(tmp_path)) as kit:
        fill(kit.home())
        first = await kit.take()
        kit.clock.offset = 1000
        await kit.homes.fork(AGENT, first.number, "copy")
        await kit.homes.laid()
        read.clear()
        assert (await kit.take("copy")).number == 1
        (kit.home("copy") / "b").write_bytes(b"mine")
        assert (await kit.take("copy")).number == 2
        assert read == [b"b"]
    async with running(Kit(tmp_path)) as kit:
        assert (await kit.take("copy")).number == 2
        assert read == [b"b"]


@pytest.mark.parametrize("way", ["anew", "full", "fork"])
async def test_a_note_that_cannot_be_written_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    write = Path.write_bytes

    def none(self: Path, data: bytes) -> int:
        if self.name.startswith(".home.laid"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    async with running(Kit(tmp_path)) as kit:
        fill(kit.home())
        await kit.take()
        was, agent = shape(kit.home()), AGENT
        monkeypatch.setattr(Path, "write_bytes", none)
        match way:
            case "anew":
                await lost(kit, to=1)
            case "full":
                (kit.home() / "b").write_bytes(b"other")
                await kit.homes.restore(AGENT, 1, full=True)
            case "fork":
                agent = "copy"
                await kit.homes.fork(AGENT, 1, agent)
                await kit.homes.laid()
        assert "files are read once more" in caplog.text
        assert kit.homes.trouble == {}
        assert difference(shape(kit.home(agent)), was) == {}
        await kit.homes._laying.settled()
        assert not (kit.home(agent).parent / ".home.due").exists()
    async with running(Kit(tmp_path)) as kit:
        await kit.take(agent)
        assert difference(shape(kit.home(agent)), was) == {}


async def test_the_note_goes_with_the_home(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        fill(kit.home())
        await kit.take()
        await lost(kit, to=1)
        await kit.homes.forget(AGENT, home=True)
        assert not (kit.home().parent / ".home.laid").exists()


def test_a_file_of_several_names_moves_with_all_of_them() -> None:
    def entry(path: bytes, hard: bytes = b"") -> Entry:
        return Entry(path, "file", 0o644, 0, 0, 1, size=3, ino=7, ctime_ns=1, hard=hard)

    tree = Tree([entry(b"a"), entry(b"b", b"a"), Entry(b"c", "file", 0o644, 0, 0, 1, ino=8, ctime_ns=1)])
    size = tree.bytes
    for path in (b"a", b"b", b"c"):
        tree.move(tree.entries[path], 8 if path == b"c" else 70, 5)
    assert (tree.same_file(7), tree.same_file(70), tree.same_file(8)) == (frozenset(), {b"a", b"b"}, frozenset())
    assert [(each.ino, each.ctime_ns) for each in map(tree.entries.__getitem__, (b"a", b"b", b"c"))] == [
        (70, 5), (70, 5), (8, 5)
    ]  # fmt: skip
    assert tree.bytes == size
