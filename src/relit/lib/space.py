"""Room on a disk."""

from __future__ import annotations

import errno


def is_full(error: BaseException) -> bool:
    """Whether no space is left for what was to be written, or no quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
