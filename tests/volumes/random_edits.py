"""Anything that a process may do to the files of a home, picked by numbers."""

from __future__ import annotations

import mmap
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

NAMES = (b"a", b"b", b"c.db", b"c.db-wal", b"d\xff\n", b"e", b"\xc3\xa9")
MODES = (0o600, 0o755, 0o444, 0o4711, 0o000)
SIZES = (0, 1, 5_000, 16_384, 70_000, 300_000)
MANY = 1_200_000  # more than 64 blocks of a database


class Step(NamedTuple):
    """What to do, and the numbers that say where and how."""

    op: str
    where: int
    how: int


class Editor:
    """Does steps in a home; a step that does not fit there is left out."""

    def __init__(self, home: Path) -> None:
        self._home = os.fsencode(home)
        self._maps: list[mmap.mmap] = []
        self._fds: list[int] = []
        self._named: set[tuple[bytes, int]] = set()  # by which names files of several names were touched

    def close(self) -> None:
        """Let go of mappings."""
        for each in self._maps:
            each.close()
        for fd in self._fds:
            os.close(fd)

    def do(self, step: Step) -> None:
        """One step."""
        with suppress(OSError):
            OPS[step.op](self, step.where, Random(step.how))

    def lost_sight(self) -> bool:
        """Whether a file was touched under a name that is its own no more: events tell that name alone, so that only
        a sweep finds what happened. Asked once for each snapshot."""
        named, self._named = self._named, set()
        return any(not os.path.lexists(path) or os.lstat(path).st_ino != ino for path, ino in named)

    def _touching(self, path: bytes) -> bytes:
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            self._named.add((path, found.st_ino))
        return path

    # --- places --------------------------------------------------------------------------------------------------

    def _paths(self, kind: Callable[[int], bool]) -> list[bytes]:
        found = [self._home] if kind is stat.S_ISDIR else []
        for folder, folders, files in os.walk(self._home):
            paths = [os.path.join(folder, name) for name in (*folders, *files)]
            found += [path for path in paths if kind(os.lstat(path).st_mode)]
        return sorted(found)

    def _file(self, where: int) -> bytes:
        files = self._paths(stat.S_ISREG)
        if not files:
            raise FileNotFoundError
        return self._touching(files[where % len(files)])

    def _place(self, where: int) -> bytes:
        folders = self._paths(stat.S_ISDIR)
        place = os.path.join(folders[where % len(folders)], NAMES[where // 7 % len(NAMES)])
        return self._touching(place) if os.path.lexists(place) else place

    def _any(self, where: int) -> bytes:
        paths = [path for path in self._paths(lambda mode: True) if path != self._home]
        if not paths:
            raise FileNotFoundError
        return self._touching(paths[where % len(paths)])

    # --- contents ------------------------------------------------------------------------------------------------

    def write(self, where: int, chance: Random) -> None:
        place = self._place(where)
        with open(place, "wb") as file:
            file.write(chance.randbytes(chance.choice(SIZES)))

    def database(self, where: int, chance: Random) -> None:
        with open(self._place(where), "wb") as file:
            file.write(b"SQLite format 3\0" + chance.randbytes(MANY + chance.randrange(40_000)))

    def page(self, where: int, chance: Random) -> None:
        path = self._file(where)
        size = os.lstat(path).st_size
        with open(path, "r+b") as file:
            file.seek(chance.randrange(size + 1))
            file.write(chance.randbytes(chance.choice((1, 100, 20_000))))

    def alike(self, where: int, chance: Random) -> None:
        """Same size, same mtime, other bytes."""
        path = self._file(where)
        before = os.lstat(path)
        with open(path, "r+b") as file:
            file.write(chance.randbytes(min(before.st_size, 50)))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def append(self, where: int, chance: Random) -> None:
        with open(self._file(where), "ab") as file:
            file.write(chance.randbytes(chance.choice((1, 30_000, 200_000))))

    def truncate(self, where: int, chance: Random) -> None:
        path = self._file(where)
        os.truncate(path, chance.randrange(os.lstat(path).st_size + 1))

    def sparse(self, where: int, chance: Random) -> None:
        with open(self._place(where), "wb") as file:
            for _ in range(chance.randrange(4)):
                file.seek(chance.randrange(1 << 22))
                file.write(chance.randbytes(chance.choice((10, 9_000))))
            file.truncate(1 << 22)

    def map(self, where: int, chance: Random) -> None:
        """Not a file of several names: what is stored under a name that went is seen by the next sweep only."""
        path = self._file(where)
        if os.lstat(path).st_nlink > 1:
            return
        fd = os.open(path, os.O_RDWR)
        self._fds.append(fd)
        if size := os.fstat(fd).st_size:
            self._maps.append(mmap.mmap(fd, size))
            self.store(len(self._maps) - 1, chance)

    def store(self, where: int, chance: Random) -> None:
        if not self._maps:
            return
        held = self._maps[where % len(self._maps)]
        if held.size() >= len(held):  # else the store would be beyond the file's end
            held[chance.randrange(len(held))] = chance.randrange(256)

    # --- names ---------------------------------------------------------------------------------------------------

    def folder(self, where: int, chance: Random) -> None:
        os.mkdir(self._place(where), chance.choice((0o700, 0o755)))

    def link(self, where: int, chance: Random) -> None:
        os.symlink(chance.choice((b"/etc", b"a", b"no where", b"..")), self._place(where))

    def hard(self, where: int, chance: Random) -> None:
        path = self._file(chance.randrange(1000))
        if os.lstat(path).st_ino not in {os.fstat(fd).st_ino for fd in self._fds}:
            os.link(path, self._place(where), follow_symlinks=False)

    def rename(self, where: int, chance: Random) -> None:
        with suppress(OSError):  # into itself, or over a folder that is not empty
            os.rename(self._any(where), self._place(chance.randrange(1000)))

    def replace(self, where: int, chance: Random) -> None:
        """As editors save."""
        path = self._file(where)
        with open(path + b"~", "wb") as file:
            file.write(chance.randbytes(chance.choice(SIZES)))
        os.rename(path + b"~", path)

    def remove(self, where: int, chance: Random) -> None:
        path = self._any(where)
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def turn(self, where: int, chance: Random) -> None:
        """Something else by the same name."""
        path = self._any(where)
        was = os.lstat(path).st_mode
        self.remove(where, chance)
        if stat.S_ISDIR(was) or chance.random() < 0.3:
            with open(path, "wb") as file:
                file.write(b"a file")
        elif chance.random() < 0.5:
            os.symlink(b"x", path)
        else:
            os.mkdir(path)
            os.symlink(b"y", os.path.join(path, b"in"))

    # --- metadata ------------------------------------------------------------------------------------------------

    def mode(self, where: int, chance: Random) -> None:
        path = self._any(where)
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            os.chmod(path, chance.choice(MODES))

    def owner(self, where: int, chance: Random) -> None:
        if os.geteuid() == 0:
            os.chown(self._any(where), chance.randrange(3), chance.randrange(3), follow_symlinks=False)

    def times(self, where: int, chance: Random) -> None:
        ns = chance.choice((0, 1, chance.randrange(2**60)))
        os.utime(self._any(where), ns=(ns, ns), follow_symlinks=False)

    def attribute(self, where: int, chance: Random) -> None:
        path = self._any(where)
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            name = chance.choice(("user.one", "user.two"))
            if name in os.listxattr(path) and chance.random() < 0.5:
                os.removexattr(path, name)
            else:
                os.setxattr(path, name, chance.randbytes(chance.choice((0, 1, 100))))


OPS: dict[str, Callable[[Editor, int, Random], None]] = {
    name: getattr(Editor, name)
    for name in (
        "write", "database", "page", "alike", "append", "truncate", "sparse", "map", "store", "folder", "link",
        "hard", "rename", "replace", "remove", "turn", "mode", "owner", "times", "attribute",
    )
}  # fmt: skip
