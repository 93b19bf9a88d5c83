"""Files that were written to: one descriptor for all of them, and no work while nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Callable

_MODIFY, _IGNORED, _OVERFLOW, _DONT_FOLLOW = 0x2, 0x8000, 0x4000, 0x02000000
_MASK = _MODIFY | _DONT_FOLLOW  # not that it was closed: whoever looks into it does that
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
GATHER_S = 0.05  # lines that come together are told together
_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, length of a name


class Touches:
    """Calls ``news`` when a watched file was written to; then not again until a moment after ``take`` has said which.

    So one that is written to all the time wakes nobody each time.
    """

    def __init__(self, news: Callable[[], None]) -> None:
        self._news = news
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._paths: dict[int, str] = {}
        self._fd = -1
        self._later: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin. Where the kernel allows none, ``watch`` answers False."""
        self._fd = self._libc.inotify_init1(_FLAGS)
        self._listen()

    def close(self) -> None:
        """Safe twice, and before ``open``."""
        self._deafen()
        fd, self._fd = self._fd, -1
        self._paths.clear()
        if fd != -1:
            os.close(fd)

    def watch(self, path: str) -> bool:
        """Whether that file is watched from now on. Asked again for the same file it changes nothing."""
        if self._fd == -1:
            return False
        watch = int(self._libc.inotify_add_watch(self._fd, os.fsencode(path), _MASK))
        if watch != -1:
            self._paths[watch] = path
        return watch != -1

    def forget(self, path: str) -> None:
        """No more of that one."""
        for watch in [watch for watch, each in self._paths.items() if each == path]:
            del self._paths[watch]
            self._libc.inotify_rm_watch(self._fd, watch)

    def take(self) -> set[str]:
        """Files that were written to since the last call; all, if the kernel lost count."""
        self._deafen()
        if self._fd == -1:
            return set()
        found: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            found = self._paths_in(os.read(self._fd, 1 << 16))  # what comes after these is told the next time
        self._later = asyncio.get_running_loop().call_later(GATHER_S, self._listen)
        return found

    def _listen(self) -> None:
        if self._fd != -1:
            asyncio.get_running_loop().add_reader(self._fd, self._heard)

    def _deafen(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._fd != -1:
            asyncio.get_running_loop().remove_reader(self._fd)

    def _heard(self) -> None:
        self._deafen()
        self._news()

    def _paths_in(self, events: bytes) -> set[str]:
        found: set[str] = set()
        at = 0
        while at < len(events):
            watch, mask, _, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size + length
            if mask & _OVERFLOW:
                found |= set(self._paths.values())
            elif mask & _IGNORED:
                self._paths.pop(watch, None)
            elif watch in self._paths:
                found.add(self._paths[watch])
        return found
