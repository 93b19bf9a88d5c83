"""Snapshots of a home hold what was in it, whatever was done to it, however it is watched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kit import Kit, noise
from shapes import difference, shape


async def taken_is_home(kit: Kit, target: str) -> None:
    """The next snapshot, laid elsewhere, is the home as it is."""
    await kit.take()
    newest = (await kit.volume()).newest
    laid = await kit.lay(newest, kit.base / target)
    assert difference(shape(laid), shape(kit.home())) == {}


def many_kinds(home: Path) -> None:
    (home / "empty").mkdir()
    (home / "deep" / "er").mkdir(parents=True)
    (home / "deep" / "note").write_text("hello")
    (home / "deep" / "nothing").touch()
    (home / "big").write_bytes(noise(3 << 20))
    (home / "link").symlink_to("/etc/passwd")
    (home / "gone").symlink_to("nowhere\n")
    os.link(home / "deep" / "note", home / "also")
    (home / "deep").chmod(0o711)
    os.setxattr(home / "big", "user.origin", b"\x00test")
    os.setxattr(home / "deep", "user.of", b"folder")
    os.mkdir(os.fsencode(home) + b"/\xff\xfe\n odd")
    with open(os.fsencode(home) + b"/\xff\xfe\n odd/\xe9", "w") as file:
        file.write("odd")
    os.chown(home / "deep" / "note", 1234, 4321)
    os.utime(home / "deep" / "note", ns=(5, 1_000_000_007))


def replace_first_name(home: Path) -> None:
    os.link(home / "big", home / "zz")
    (home / "also").unlink()
    (home / "big").unlink()
    (home / "big").write_text("another")


def change_kinds(home: Path) -> None:
    (home / "deep" / "note").unlink()
    (home / "deep" / "note").mkdir()
    (home / "deep" / "note" / "inner").write_text("in a folder now")
    (home / "empty").rmdir()
    (home / "empty").symlink_to("deep")
    (home / "link").unlink()
    (home / "link").write_text("a file now")


def change_kinds_back(home: Path) -> None:
    (home / "deep" / "note" / "inner").unlink()
    (home / "deep" / "note").rmdir()
    (home / "deep" / "note").symlink_to("er")
    (home / "empty").unlink()
    (home / "empty").write_text("a file")


def rename_folders(home: Path) -> None:
    (home / "deep").rename(home / "sunk")
    (home / "sunk" / "er").rename(home / "deep")
    (home / "deep" / "new").write_text("in the moved one")


def truncate(home: Path) -> None:
    os.truncate(home / "big", 100_001)
    os.truncate(home / "zz", 0)
    with open(home / "empty", "ab") as file:
        file.write(noise(70_000))


def make_sparse(home: Path) -> None:
    with open(home / "sparse", "wb") as file:
        file.write(noise(10_000))
        file.seek(1 << 20)
        file.write(noise(10_000, 1))
        file.truncate(5 << 20)
    with open(home / "hollow", "wb") as file:
        file.truncate(1 << 20)


def rewrite_alike(home: Path) -> None:
    """Same size, same mtime, other bytes."""
    for path in (home / "sparse", home / "empty"):
        before = path.stat()
        with open(path, "r+b") as file:
            file.write(b"other")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def metadata(home: Path) -> None:
    (home / "empty").chmod(0o4751)
    os.chown(home / "sparse", 7, 8)
    os.setxattr(home / "empty", "user.new", b"1")
    os.removexattr(home / "sunk", "user.of")
    os.utime(home / "link", ns=(1, 2))


def remove_trees(home: Path) -> None:
    (home / "sunk" / "note").unlink()
    (home / "sunk" / "nothing").unlink()
    (home / "sunk").rmdir()
    (home / "zz").unlink()


EDITS: list[Callable[[Path], None]] = [
    many_kinds,
    replace_first_name,
    change_kinds,
    change_kinds_back,
    rename_folders,
    truncate,
    make_sparse,
    rewrite_alike,
    metadata,
    remove_trees,
]


async def test_every_kind_of_change_is_in_the_next_snapshot(watched: Kit) -> None:
    for no, edit in enumerate(EDITS):
        edit(watched.home())
        await taken_is_home(watched, f"{no}-{edit.__name__}")


async def test_a_line_more_in_a_log_costs_that_line(volumes: Kit) -> None:
    log = volumes.home() / "log"
    log.write_bytes(noise(100_000))
    await volumes.take()
    costs = []
    for number in range(40):
        with open(log, "ab") as file:
            file.write(noise(500, seed=number))
        costs.append((await volumes.take()).fresh)
    assert sorted(costs)[-3] < 1_000, "but now and then its last chunk is stored as one again"
    await taken_is_home(volumes, "grown")
