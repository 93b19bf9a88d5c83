"""Root without its right to read and change whatever it likes: what permissions say counts, as for anybody."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER = 1, 2, 3
_VERSION = 0x20080522
_LIBC = ctypes.CDLL(None, use_errno=True)
_Three = ctypes.c_uint32 * 3  # effective, permitted, inheritable


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


@contextmanager
def like_anybody() -> Iterator[None]:
    """For this thread, and those that it starts meanwhile."""
    header, rights = _Header(_VERSION, 0), (_Three * 2)()
    assert _LIBC.capget(ctypes.byref(header), rights) == 0
    before = rights[0][0]
    rights[0][0] = before & ~sum(1 << each for each in (_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER))
    assert _LIBC.capset(ctypes.byref(header), rights) == 0
    try:
        yield
    finally:
        rights[0][0] = before
        assert _LIBC.capset(ctypes.byref(header), rights) == 0
