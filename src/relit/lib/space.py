"""Room on a disk."""

from __future__ import annotations

import errno
import os

NONE_LEFT = 1 << 20  # bytes: with less than that whatever an agent writes fails


def is_full(error: BaseException) -> bool:
    """Whether no space is left for what was to be written, or no quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def full(path: str) -> bool:
    """Whether nothing more can be written there. False when the folder is not there."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < NONE_LEFT or (disk.f_files > 0 and disk.f_favail == 0)
