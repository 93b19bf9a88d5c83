"""Large files of a home that stands still: copied by reference where the filesystem shares extents (btrfs, XFS).

Reading them can wait until the agent goes on."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

import msgspec

from relit.manifest import Entry

LEAST = 4 << 20  # reading less takes no longer than a clone
_FICLONE = 0x40049409
_NEVER = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.EISDIR, errno.EROFS})


class Known(NamedTuple):
    """What is known of a file's content: ids of chunks that need not be kept again, and how long it was."""

    ids: Set[bytes]
    size: int


class Postponed(msgspec.Struct):
    """A file to be read out of its clone. ``old``: what was known of it."""

    entry: Entry
    clone: int
    size: int
    blocks: os.stat_result
    old: Known


class Clones:
    """``folder``: one on the filesystem of the homes. Filesystems that refuse are asked once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refused = False
        self.postponed: list[Postponed] = []

    def clone(self, fd: int, size: int) -> int | None:
        """A file without a name that shares the content; ``None`` when it must be read now."""
        if self._refused or size < LEAST:
            return None
        try:
            made = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            self._refused = True
            return None
        try:
            fcntl.ioctl(made, _FICLONE, fd)
        except OSError as error:
            os.close(made)
            self._refused = error.errno in _NEVER
            return None
        return made

    def close(self) -> None:
        """Let go of what was not read."""
        for each in self.postponed:
            os.close(each.clone)
        self.postponed = []
