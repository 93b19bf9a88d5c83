"""What was touched in one home since it was last asked, and whether it is the same folder still."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from relit.volumes.base import Changes
from relit.volumes.watch.kernel import CLOSE_WRITE

_MOST = 100_000  # paths kept; a sweep is cheaper than more


class Touched:
    """One home's marks. ``root``: its real path."""

    def __init__(self, home: Path, skip: Sequence[bytes] = ()) -> None:
        self.home = home
        self.root = b""
        self._skip = frozenset(each.strip(b"/") for each in skip)
        self._paths: set[bytes] = set()
        self._closed: set[bytes] = set()
        self._trees: set[bytes] = set()
        self._everything = False
        self._is: tuple[int, int] | None = None

    def skips(self, folder: bytes) -> bool:
        """Whether what lies in that folder need not be watched."""
        return bool(self._skip) and (folder in self._skip or any(folder.startswith(each + b"/") for each in self._skip))

    def path(self, path: bytes, mask: int) -> None:
        """That name, or what it stands for, was touched: an event of these bits."""
        (self._closed if mask == CLOSE_WRITE else self._paths).add(path)
        if len(self._paths) + len(self._closed) > _MOST:
            self.lose()

    def tree(self, folder: bytes) -> None:
        """Anything may have happened below that folder."""
        if not self.skips(folder):
            self._trees.add(folder)

    def lose(self) -> None:
        """Events are missing."""
        self._everything = True
        self._paths.clear()
        self._closed.clear()
        self._trees.clear()

    def take(self) -> Changes:
        """All of it; from now on it starts anew."""
        closed = frozenset(self._closed - self._paths)
        changes = Changes(frozenset(self._paths), frozenset(self._trees), self._everything, closed)
        self._paths, self._closed, self._trees, self._everything = set(), set(), set(), False
        return changes

    def arrived(self) -> bool:
        """Look where the home is and which folder it is: true when it is another one than last time, or gone."""
        try:
            root, found = _real(self.home)
        except OSError:
            self.root, self._is = b"", None
            return True
        now = (found.st_dev, found.st_ino)
        changed = root != self.root or now != self._is
        self.root, self._is = root, now
        return changed

    @property
    def there(self) -> bool:
        """Whether there was a home when it was last looked for."""
        return self._is is not None


def _real(home: Path) -> tuple[bytes, os.stat_result]:
    """Its real path as the kernel tells it, and what is there."""
    fd = os.open(home, os.O_PATH | os.O_CLOEXEC)
    try:
        return os.readlink(b"/proc/self/fd/%d" % fd), os.fstat(fd)
    finally:
        os.close(fd)
