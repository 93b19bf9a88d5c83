"""Brings a home that was laid down to the disk; then the record that says "not yet" goes (see ``due``).

The agent does not wait for it. Run as a program it does it for a command that has ended: the standard library alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LIBC = ctypes.CDLL(None, use_errno=True)


def record_of(home: str) -> str:
    """Where it is noted that a home's files are not all on the disk."""
    folder, name = os.path.split(home)
    return os.path.join(folder, f".{name}.due")


@contextmanager
def only(folder: str) -> Iterator[int]:
    """Nobody else changes a record in that folder meanwhile. Its descriptor."""
    above = os.open(folder, _FOLDER)
    try:
        fcntl.flock(above, fcntl.LOCK_EX)
        yield above
    finally:
        os.close(above)


def settle(home: str) -> None:
    """Wait for the disk, then remove the record; another that came meanwhile stays."""
    record, folder = record_of(home), os.path.dirname(home)
    try:
        fd = os.open(record, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _sync_filesystem(folder)
        with only(folder) as above:
            if _is(record, fd):
                os.unlink(record)
                os.fsync(above)
    finally:
        os.close(fd)


def hand_over(home: str) -> None:
    """``settle`` in a process that nobody waits for."""
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
    more = [(os.POSIX_SPAWN_DUP2, 0, fd) for fd in (1, 2)]
    words = [sys.executable, "-I", "-S", __file__, home]
    os.posix_spawn(sys.executable, words, {}, file_actions=[null, *more], setsid=True)


def _sync_filesystem(folder: str) -> None:
    fd = os.open(folder, _FOLDER)
    try:
        if _LIBC.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), folder)
    finally:
        os.close(fd)


def _is(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    settle(sys.argv[1])
