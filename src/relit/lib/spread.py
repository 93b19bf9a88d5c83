"""Where new folders lie on ext4's disk.

ext4 puts a folder beside its parent, and gives no file an inode that another one had in the last minutes: it looks at
each of those, every time. Where a large tree was just deleted, and that is where one is restored, making a file takes
up to a millisecond of CPU instead of 30 µs (measured: 4,000 files of 5 KB, Linux 6.18). In a folder that is marked as
the top of a hierarchy (``chattr +T``) each new folder begins in a part of the disk of its own, by its name.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_LOG = logging.getLogger(__name__)
_GET, _SET = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_TOP = 0x00020000  # FS_TOPDIR_FL
_FLAGS = struct.Struct("i")


@contextmanager
def spread(folder: Path) -> Iterator[None]:
    """Folders that are made in it meanwhile begin elsewhere. A hint: filesystems that do not know it need none, and who
    does not own the folder goes without."""
    with ExitStack() as after:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            after.callback(os.close, fd)
            (flags,) = _FLAGS.unpack(fcntl.ioctl(fd, _GET, bytes(_FLAGS.size)))
            if not flags & _TOP:
                fcntl.ioctl(fd, _SET, _FLAGS.pack(flags | _TOP))
                after.callback(fcntl.ioctl, fd, _SET, _FLAGS.pack(flags))
        except OSError as error:
            _LOG.debug("%s is not marked: %s", folder, error)
        yield
