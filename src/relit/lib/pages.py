"""Contents that pass through the page cache without staying there (docs/decisions/page-cache.md).

What snapshots write and restores lay down is not read again soon. Left in memory it pushes out what agents work with,
and on a virtual machine whose host takes free memory back, every page that was not used just before is slow to get.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time
from collections.abc import Sequence

_LIBC = ctypes.CDLL(None, use_errno=True)
_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EOPNOTSUPP, errno.EPERM})
_STEP = 8 << 20
_SLOWEST = 400 << 20  # bytes a second: a slower disk is not waited for by those who need not
_PATIENCE_S = 0.25
_LARGE = 1 << 20


def begin(fd: int, offset: int = 0, length: int = 0) -> None:
    """Have the disk take that part, to the file's end if ``length`` is 0. OSError: an earlier write failed."""
    _sync_range(fd, offset, length, _WRITE)


def drop(fd: int, offset: int = 0, length: int = 0) -> None:
    """Wait until the disk has that part, and let go of its pages. OSError: it does not have it, and no later call for
    this descriptor says so."""
    _sync_range(fd, offset, length, _WAIT_BEFORE | _WRITE | _WAIT_AFTER)
    _let_go(fd, offset, length)


def was_read(fd: int, offset: int, length: int) -> None:
    """Let go of pages that were only read, if it is worth the call."""
    if length >= _LARGE:
        _let_go(fd, offset, length)


def _let_go(fd: int, offset: int, length: int) -> None:
    with contextlib.suppress(OSError):  # advice, of which some kernels and sandboxes know nothing
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def _sync_range(fd: int, offset: int, length: int, flags: int) -> None:
    if _LIBC.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(flags)):
        code = ctypes.get_errno()
        if code not in _CANNOT:
            raise OSError(code, os.strerror(code))


class Stream:
    """A file that is written from its front to its end: the disk takes it in large steps, one behind the writer."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begun = self._dropped = 0

    def written(self, end: int) -> None:
        """It is that long by now. OSError as ``drop``."""
        if end - self._begun < _STEP:
            return
        begin(self._fd, self._begun, end - self._begun)
        if self._begun > self._dropped:
            drop(self._fd, self._dropped, self._begun - self._dropped)
        self._dropped, self._begun = self._begun, end


class Trail:
    """Whole files, many of them: while some are written, the disk takes those before. Given up for the rest when the
    disk turns out to be slow. Descriptors are closed here."""

    def __init__(self) -> None:
        self._last: Sequence[int] = ()
        self._bytes = 0
        self._waited_s = 0.0
        self._slow = False

    def add(self, fds: Sequence[int], size: int) -> None:
        """So many bytes were written to these. OSError: to these, or to those before."""
        before, self._last = self._last, fds
        try:
            if not self._slow:
                for fd in fds:
                    begin(fd)
                self._wait(before)
        finally:
            _close(before)
        self._bytes += size

    def _wait(self, fds: Sequence[int]) -> None:
        began = time.monotonic()
        for fd in fds:
            drop(fd)
        self._waited_s += time.monotonic() - began
        self._slow = self._waited_s > _PATIENCE_S + self._bytes / _SLOWEST

    def finish(self) -> None:
        """Let go of all. OSError as ``add``."""
        self.add((), 0)

    def close(self) -> None:
        """Of what is left after an error. Safe twice."""
        left, self._last = self._last, ()
        _close(left)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
