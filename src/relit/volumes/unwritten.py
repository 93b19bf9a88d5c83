"""Large databases that were opened for writing and closed, and not written meanwhile: they need not be read again.

Every restart of an agent closes its databases. That a file was closed is no sign of a change; that it was written is
an event of its own, so what is left to rule out is a store through a shared mapping, which gives none. The kernel sets
a file's ctime when such a mapping stores to a page for the first time (``page_mkwrite`` of ext4, XFS and btrfs; tmpfs
has none). So if no process had the file mapped at some moment before it was read, and its ctime is older than that
moment, no mapping has stored to it since: one that came later would have changed the ctime.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Iterable

from relit.volumes.laying import PATCHED, in_blocks
from relit.volumes.look import Looked
from relit.volumes.scan import Home, same
from relit.volumes.tree import View

_STAMPING = {0xEF53, 0x5846_5342, 0x9123_683E}  # f_type of ext4, XFS, btrfs
_STATFS = 256  # more than struct statfs has
_LIBC = ctypes.CDLL(None, use_errno=True)


class Unwritten:
    """For one home: when databases were known not to be mapped, before they were read."""

    def __init__(self) -> None:
        self._unmapped: dict[bytes, tuple[int, int]] = {}  # path → (inode, moment)

    def mapped(self, inodes: Collection[int]) -> None:
        """Some process has these mapped, whatever they are called."""
        for path in [path for path, (ino, _) in self._unmapped.items() if ino in inodes]:
            del self._unmapped[path]

    def read(self, looked: Looked, mapped: Collection[int], asked_ns: int) -> None:
        """These are read now. At ``asked_ns`` or later no other inodes than ``mapped`` were mapped."""
        for path, found in looked.items():
            if found is not None and found.st_size >= PATCHED and found.st_ino not in mapped:
                self._unmapped[path] = found.st_ino, asked_ns
            else:
                self._unmapped.pop(path, None)

    def among(self, home: Home, known: View, closed: Iterable[bytes]) -> set[bytes]:
        """Which of these, of which nothing is told but that they were closed, are as they are known."""
        likely = [path for path in closed if path in self._unmapped]
        if not likely or not stamps(home.beneath.fd):
            return set()
        return {path for path in likely if self._same(home, known, path)}

    def _same(self, home: Home, known: View, path: bytes) -> bool:
        entry, found = known.entry(path), home.look(path)
        ino, asked_ns = self._unmapped[path]
        return (
            entry is not None
            and found is not None
            and in_blocks(entry)
            and same(entry, found)
            and found.st_ino == ino
            and found.st_ctime_ns < asked_ns
        )


def stamps(folder: int) -> bool:
    """Whether files of that filesystem get a new ctime when a mapping stores to them."""
    fd = os.open(f"/proc/self/fd/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = ctypes.create_string_buffer(_STATFS)
        return _LIBC.fstatfs(fd, found) == 0 and ctypes.c_long.from_buffer(found).value in _STAMPING
    finally:
        os.close(fd)
