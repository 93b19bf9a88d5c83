"""What an instance writes: a file that grows at its end, is read, and gives back the disk that was read.

Its writers are not ours and append, so nothing is cut off while one of them lives: what was read becomes a hole. Only
when the kernel grants a lease, which it does while nobody else has the file open, is it made empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_BLOCK = 4096
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENODEV})

_EMPTY_PATH = 0x1000
_HANDLE_MOST = 128

Punch = Callable[[int, int, int], None]


def punch(fd: int, offset: int, length: int) -> None:
    """Give back the disk under a part of a file, whose size stays. Raises ``OSError``."""
    if _LIBC.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class _Handle(ctypes.Structure):
    _fields_ = (
        ("bytes", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("data", ctypes.c_ubyte * _HANDLE_MOST),
    )


def identity(fd: int) -> str:
    """Names a file for ever: a number alone may be another file's once this one is deleted."""
    handle, mount = _Handle(bytes=_HANDLE_MOST), ctypes.c_int()
    if _LIBC.name_to_handle_at(fd, b"", ctypes.byref(handle), ctypes.byref(mount), _EMPTY_PATH):
        return str(os.fstat(fd).st_ino)  # this filesystem has no better name
    return f"{handle.type}-{bytes(handle.data)[: handle.bytes].hex()}"


def make(path: Path) -> None:
    """So that there is something to watch; its writer finds it there. Raises ``OSError``."""
    os.close(os.open(path, _MAKE, 0o600))


class RawLog:
    """An open one. ``OSError`` from ``RawLog`` itself: it is not there, or is no plain file."""

    def __init__(self, path: Path, punch: Punch = punch) -> None:
        self._punch = punch
        self.fd = os.open(path, _OPEN)
        found = os.fstat(self.fd)
        self.size, self.changed = found.st_size, found.st_mtime_ns
        if not stat.S_ISREG(found.st_mode):
            os.close(self.fd)
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        self.file = identity(self.fd)

    def close(self) -> None:
        os.close(self.fd)

    def read(self, offset: int, most: int) -> bytes:
        """From there on. Raises ``OSError``."""
        return os.pread(self.fd, most, offset)

    def begins(self) -> int:
        """Where the first thing is that was not given back; its size, if nothing is."""
        try:
            return os.lseek(self.fd, 0, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return self.size
            if error.errno in _CANNOT:
                return 0
            raise

    def free(self, start: int, end: int) -> bool:
        """Give back what lies there, in whole blocks. False: this filesystem cannot. Raises ``OSError``."""
        start, end = start - start % _BLOCK, end - end % _BLOCK
        try:
            if end > start:
                self._punch(self.fd, start, end - start)
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise
        return True

    def empty(self, length: int) -> bool:
        """Make it empty if nobody else has it open and it is no longer than that. False: it stays. For an instant
        opening it without waiting fails with EAGAIN. Raises ``OSError``."""
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETSIG, signal.SIGURG)  # the usual one would end us when somebody opens it
            fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False  # somebody has it, or nobody can tell here
        try:
            if os.fstat(self.fd).st_size != length:
                return False
            os.ftruncate(self.fd, 0)
            return True
        finally:
            with contextlib.suppress(OSError):  # closing the file gives it back, too
                fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
