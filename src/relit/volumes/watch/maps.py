"""Files that processes have mapped shared and writable: stores to them give no event.

Only a mapping that exists now matters: one that is gone has let go of its file, which gives the event "closed after
writing".
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_QUERY = struct.Struct("=QQQQQQQQQIIIIQQ")
_ASK = 3 << 30 | _QUERY.size << 16 | ord("f") << 8 | 17  # PROCMAP_QUERY, Linux 6.11
_WRITABLE_SHARED_NEXT_FILE = 0x02 | 0x08 | 0x10 | 0x20
_NAME = 4096
_LINE = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ .w.s [0-9a-f]+ [0-9a-f:]+ [0-9]+ +(/.*)$", re.MULTILINE)
_DELETED = b" (deleted)"


class Mappings:
    """Asks processes for their mappings. One serves all homes; any thread may ask.

    ``queries``: ask the kernel for just these mappings (Linux 6.11; 10 µs a process), else read all of them as text.
    """

    def __init__(self, *, queries: bool = True) -> None:
        self._lock = threading.Lock()
        self._asks = queries
        self._name = ctypes.create_string_buffer(_NAME)

    def below(self, home: Path, pids: Callable[[], Iterable[int]] | None = None) -> frozenset[bytes]:
        """Paths relative to the home. ``pids``: the processes that can be meant; else all that we may look at."""
        try:
            root = os.fsencode(os.path.realpath(home)).rstrip(b"/") + b"/"
        except OSError:
            return frozenset()
        found: set[bytes] = set()
        with self._lock:
            for pid in pids() if pids is not None else _processes():
                found.update(path[len(root) :] for path in self._of(pid) if path.startswith(root))
        return frozenset(_living(root, found))

    def _of(self, pid: int) -> list[bytes]:
        try:
            fd = os.open(b"/proc/%d/maps" % pid, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return []
        try:
            return list(self._asked(fd)) if self._asks else _read(fd)
        except OSError as error:
            if error.errno == errno.ESRCH:
                return []
            if error.errno == errno.ENOTTY:
                self._asks = False
                return _read(fd)
            raise
        finally:
            os.close(fd)

    def _asked(self, fd: int) -> Iterator[bytes]:
        at = 0
        while True:
            query = bytearray(
                _QUERY.pack(
                    _QUERY.size,
                    _WRITABLE_SHARED_NEXT_FILE,
                    at,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    _NAME,
                    0,
                    _address(self._name),
                    0,
                )
            )
            try:
                fcntl.ioctl(fd, _ASK, query)
            except FileNotFoundError:
                return
            at = _QUERY.unpack(query)[4]
            yield self._name.value


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def _read(fd: int) -> list[bytes]:
    pieces = []
    while piece := os.read(fd, 1 << 20):
        pieces.append(piece)
    found: set[bytes] = set()
    for path in _LINE.findall(b"".join(pieces)):
        found |= {path, path.replace(rb"\012", b"\n")}  # the kernel escapes newlines, but not backslashes
    return list(found)


def _living(root: bytes, paths: Iterable[bytes]) -> Iterator[bytes]:
    """Without files that have no name any more, and names that were only one way to read a line."""
    for path in paths:
        if (not path.endswith(_DELETED) and b"\n" not in path and rb"\012" not in path) or os.path.lexists(root + path):
            yield path


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())
