"""What of a home cannot be read is told, and stays as earlier snapshots have it: it is never taken for gone."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kit import AGENT, Kit, running
from rights import like_anybody

from relit.manifest import Snapshot
from relit.volumes.base import Changes
from relit.volumes.beneath import Beneath
from relit.volumes.ignore import Ignore
from relit.volumes.look import Looked, sweep, touched
from relit.volumes.reading import Reader
from relit.volumes.scan import AS_BEFORE, Home, Unread, windows
from relit.volumes.tree import Tree, View

NOBODY = 65534
DENIED = f"Permission denied; {AS_BEFORE}"


@pytest.fixture
def common(tmp_path: Path) -> Iterator[Path]:
    """A folder in which what permissions say counts for us, too."""
    with like_anybody():
        yield tmp_path
    for folder, _, _ in os.walk(tmp_path):
        os.chmod(folder, 0o700)


@pytest.fixture(params=["inotify", "sweep"])
async def kit(request: pytest.FixtureRequest, common: Path) -> AsyncIterator[Kit]:
    """One snapshot: two files in a folder in a folder, and one beside."""
    async with running(Kit(common, watch=request.param)) as made:
        home = made.home()
        (home / "a" / "f" / "deep").mkdir(parents=True)
        for name in ("a/f/one", "a/f/deep/two", "beside"):
            (home / name).write_text("1")
        await made.take()
        yield made


def told(taken: Snapshot) -> list[tuple[bytes, str]]:
    return [(each.path, each.why) for each in taken.skipped]


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o300])
async def test_what_is_in_an_unreadable_folder_stays_as_it_was_until_it_can_be_read(kit: Kit, mode: int) -> None:
    before = await kit.tree(1)
    folder = kit.home() / "a" / "f"
    (folder / "one").write_text("22")
    (folder / "new").write_text("1")
    (folder / "deep" / "two").unlink()
    (kit.home() / "beside").write_text("22")
    folder.chmod(mode)
    taken = await kit.take()
    assert told(taken) == [(b"a/f", DENIED)]
    now = await kit.tree(taken.number)
    assert now.keys() == before.keys()
    assert (now[b"a/f"].mode, now[b"beside"].size) == (mode, 2)
    assert now[b"a/f/deep/two"] == before[b"a/f/deep/two"]
    assert told(await kit.take(always=True)) == [(b"a/f", DENIED)]
    folder.chmod(0o700)
    taken = await kit.take()
    assert told(taken) == []
    now = await kit.tree(taken.number)
    assert now.keys() == before.keys() - {b"a/f/deep/two"} | {b"a/f/new"}
    assert now[b"a/f/one"].size == 2


async def test_a_file_changed_through_a_closed_folder_is_seen_once_it_is_open(kit: Kit) -> None:
    folder = kit.home() / "a" / "f"
    with open(folder / "one", "w") as file:
        folder.chmod(0)
        await kit.take()
        file.write("333")
    await kit.take(always=True)
    folder.chmod(0o700)
    taken = await kit.take()
    assert (await kit.tree(taken.number))[b"a/f/one"].size == 3


async def test_an_unreadable_file_stays_as_it_was_and_a_new_one_stays_out(kit: Kit) -> None:
    before = await kit.tree(1)
    (kit.home() / "beside").write_text("22")
    (kit.home() / "beside").chmod(0)
    (kit.home() / "never").write_text("1")
    (kit.home() / "never").chmod(0)
    (kit.home() / "closed" / "in").mkdir(parents=True)
    (kit.home() / "closed").chmod(0)
    taken = await kit.take()
    assert told(taken) == [(b"beside", DENIED), (b"closed", DENIED), (b"never", DENIED)]
    now = await kit.tree(taken.number)
    assert now.keys() == before.keys()
    assert now[b"beside"] == before[b"beside"]


async def test_a_file_whose_attributes_cannot_be_read_does_not_stop_the_snapshot(kit: Kit) -> None:
    os.setxattr(kit.home() / "a" / "f", "user.x", b"1")
    (kit.home() / "a" / "f").chmod(0o300)
    (kit.home() / "beside").write_text("22")
    taken = await kit.take()
    assert told(taken) == [(b"a/f", DENIED)]
    assert (await kit.tree(taken.number))[b"beside"].size == 2


async def test_a_restore_opens_what_is_ours_and_puts_it_back(kit: Kit) -> None:
    folder, home = kit.home() / "a" / "f", kit.home()
    (folder / "one").write_text("22")
    (folder / "deep").chmod(0)
    folder.chmod(0)
    (home / "beside").write_text("333")
    (home / "beside").chmod(0)
    (home / "never" / "in").mkdir(parents=True)
    (home / "never").chmod(0)
    await kit.take()
    going = await kit.homes.restore(AGENT, 1)
    assert going.skipped == []
    assert [(folder / "one").read_text(), (folder / "deep" / "two").read_text(), (home / "beside").read_text()] == [
        "1"
    ] * 3
    assert not (home / "never").exists()
    await kit.homes.restore(AGENT, going.before.number)
    assert [(folder / "one").read_text(), (home / "beside").read_text()] == ["22", "333"]
    assert (home / "never" / "in").is_dir()


async def test_a_restore_tells_what_it_cannot_read_and_leaves_it_alone(kit: Kit) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to give a folder to another user")
    folder = kit.home() / "a" / "f"
    (folder / "one").write_text("22")
    folder.chmod(0o700)
    os.chown(folder, NOBODY, NOBODY)
    (kit.home() / "beside").write_text("22")
    going = await kit.homes.preview(AGENT, 1)
    assert [(each.path, each.why) for each in going.skipped] == [(b"a/f", DENIED)]
    going = await kit.homes.restore(AGENT, 1, [b"beside"])
    assert going.skipped == []
    assert (kit.home() / "beside").read_text() == "1"


class Failing(Beneath):
    """A home on a disk that fails for one path."""

    def __init__(self, root: Path, bad: bytes) -> None:
        super().__init__(root)
        self.bad = bad

    def open(self, path: bytes, flags: int, mode: int = 0o600) -> int:
        if path == self.bad and not flags & os.O_PATH:
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fsdecode(path))
        return super().open(path, flags, mode)


@pytest.mark.parametrize("bad", [b"d/file", b"d"])
def test_an_error_of_the_disk_is_told_of_its_path_and_takes_nothing_away(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("1")
    (tmp_path / "other").write_text("1")
    tree, reader = Tree(), Reader(lambda data: b"%016d" % len(data), memoryview(bytearray(1 << 20)))

    def see(home: Home, looked: Looked) -> None:
        tree.apply(reader.see(home, tree, looked, lambda id, data: None))

    with Beneath(tmp_path) as beneath:
        home = Home(beneath, Ignore())
        see(home, sweep(home, View(tree)))
    before = {path: tree.entries[path] for path in tree.entries}
    (tmp_path / "d" / "file").write_text("22")
    with Failing(tmp_path, bad) as failing:
        for look in ("sweep", "events"):
            home = Home(failing, Ignore())
            changes = Changes(frozenset({b"d", b"d/file"}))
            see(home, sweep(home, View(tree)) if look == "sweep" else touched(home, View(tree), changes))
            assert {path: each.why for path, each in home.skipped.items()} == {bad: f"Input/output error; {AS_BEFORE}"}
            assert {path: tree.entries[path] for path in tree.entries}.keys() == before.keys()
    with Beneath(tmp_path) as beneath:
        home = Home(beneath, Ignore())
        see(home, touched(home, View(tree), Changes(trees=frozenset({bad}))))
        assert tree.entries[b"d/file"].size == 2


def test_content_that_cannot_be_had_is_told_from_other_errors() -> None:
    fd = os.open("/proc/self/mem", os.O_RDONLY)  # nothing is mapped at its start
    try:
        with pytest.raises(Unread) as told:
            list(windows(fd, 100, [], memoryview(bytearray(16384)), lambda view: [len(view)]))
        assert told.value.error.errno == errno.EIO
    finally:
        os.close(fd)
