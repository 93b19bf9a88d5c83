"""Files that processes have mapped shared and writable: stores to them give no event.

Only a mapping that exists now matters: one that is gone has let go of its file, which gives the event "closed after
writing" (unless the process keeps a descriptor of it open: then that event comes when it closes it). What we may not
look at is left out: without CAP_SYS_PTRACE, other users' processes.

A process shows paths as they are in its own mount namespace. When that is not ours, the file's handle tells where it is
for us; that needs CAP_DAC_READ_SEARCH and a filesystem with handles.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import re
import struct
import threading
import time
from collections.abc import Collection, Iterable, Iterator

import msgspec

from relit.volumes.watch import kernel

_QUERY = struct.Struct("=QQQQQQQQQIIIIQQ")
_ASK = 3 << 30 | _QUERY.size << 16 | ord("f") << 8 | 17  # PROCMAP_QUERY, Linux 6.11
_WRITABLE_SHARED_NEXT_FILE = 0x02 | 0x08 | 0x10 | 0x20
_NAME = 4096
_LINE = re.compile(rb"^([0-9a-f]+-[0-9a-f]+) .w.s [0-9a-f]+ [0-9a-f:]+ ([0-9]+) +(/.*)$", re.MULTILINE)
_PF_KTHREAD = 0x200000
_DELETED = b" (deleted)"
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


class _Mapping(msgspec.Struct, frozen=True):
    place: bytes  # the name in /proc/PID/map_files
    path: bytes
    ino: int


class Mappings:
    """Asks processes for their mappings. One serves all homes; any thread may ask.

    ``queries``: ask the kernel for just these mappings (Linux 6.11; 10 µs a process), else read all of them as text.
    """

    def __init__(self, *, queries: bool = True) -> None:
        self._lock = threading.Lock()
        self._asks = queries
        self._name = ctypes.create_string_buffer(_NAME)
        self._query = bytearray(_QUERY.size)
        self._at = ctypes.byref((ctypes.c_char * _QUERY.size).from_buffer(self._query))
        self._first = self._from(0)
        self._processes_met: dict[tuple[int, int], bool] = {}  # whether it is a thread of the kernel
        self._seen: list[tuple[int, _Mapping, bool]] = []
        self._seen_at = -math.inf

    def below(self, root: bytes, recent_s: float = 0.0, pids: Collection[int] | None = None) -> frozenset[bytes]:
        """Paths relative to the home whose real path is ``root`` (empty: it is not there). ``pids``: the processes that
        are meant; else all that we may look at, and then what was found up to ``recent_s`` ago may be the answer."""
        if not root:
            return frozenset()
        root = root.rstrip(b"/") + b"/"
        found: set[bytes] = set()
        with self._lock:
            for pid, mapping, elsewhere in self._all(recent_s) if pids is None else self._each(pids):
                if mapping.path.startswith(root):
                    found.add(mapping.path[len(root) :])
                elif elsewhere:
                    found.update(_found_by_handle(root, pid, mapping))
        return frozenset(_living(root, found))

    def _all(self, recent_s: float) -> list[tuple[int, _Mapping, bool]]:
        now = time.monotonic()
        if now - self._seen_at > recent_s:
            self._seen, self._seen_at = list(self._each(self._processes())), now
        return self._seen

    def _processes(self) -> list[int]:
        """All but the kernel's own threads, most of what is in /proc: they map nothing. A process's folder keeps its
        inode number, and another process of that number gets a folder of its own."""
        with os.scandir("/proc") as entries:
            now = {(int(each.name), each.inode()) for each in entries if each.name.isdecimal()}
        new = now - self._processes_met.keys()
        known = {each: thread for each, thread in self._processes_met.items() if each in now}
        self._processes_met = known | {each: _is_thread(each[0]) for each in new}
        return [pid for (pid, _), thread in self._processes_met.items() if not thread]

    def inodes(self) -> frozenset[int]:
        """Of all that was mapped when all processes were asked last, by whatever name."""
        with self._lock:
            return frozenset(mapping.ino for _, mapping, _ in self._seen)

    def _each(self, pids: Iterable[int]) -> Iterator[tuple[int, _Mapping, bool]]:
        """Every mapping, and whether its process has a mount namespace of its own."""
        for pid in pids:
            mappings = self._of(pid)
            elsewhere = bool(mappings) and _elsewhere(pid)
            for mapping in mappings:
                yield pid, mapping, elsewhere

    def _of(self, pid: int) -> list[_Mapping]:
        try:
            fd = os.open(b"/proc/%d/maps" % pid, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return []
        try:
            return self._asked(fd) if self._asks else list(_read(fd))
        except OSError as error:
            if error.errno == errno.ESRCH:
                return []
            if error.errno == errno.ENOTTY and self._asks:
                self._asks = False
                return list(_read(fd))
            raise
        finally:
            os.close(fd)

    def _asked(self, fd: int) -> list[_Mapping]:
        """Without exceptions and anything made for it where there is no mapping: every process is asked."""
        found: list[_Mapping] = []
        self._query[:] = self._first
        while _LIBC.ioctl(fd, _ASK, self._at) == 0:
            _, _, _, start, end, _, _, _, ino, *_ = _QUERY.unpack(self._query)
            found.append(_Mapping(b"%x-%x" % (start, end), self._name.value, ino))
            self._query[:] = self._from(end)
        code = ctypes.get_errno()
        if code != errno.ENOENT:
            raise OSError(code, os.strerror(code))
        return found

    def _from(self, start: int) -> bytes:
        where = ctypes.addressof(self._name)
        return _QUERY.pack(_QUERY.size, _WRITABLE_SHARED_NEXT_FILE, start, *[0] * 8, _NAME, 0, where, 0)


def _read(fd: int) -> Iterator[_Mapping]:
    pieces = []
    while piece := os.read(fd, 1 << 20):
        pieces.append(piece)
    for place, ino, path in _LINE.findall(b"".join(pieces)):
        for each in {path, path.replace(rb"\012", b"\n")}:  # the kernel escapes newlines, but not backslashes
            yield _Mapping(place, each, int(ino))


def _elsewhere(pid: int) -> bool:
    """Whether the process has a mount namespace of its own."""
    try:
        return os.readlink(b"/proc/%d/ns/mnt" % pid) != os.readlink(b"/proc/self/ns/mnt")
    except OSError:
        return False  # it ended, or is none of ours


def _found_by_handle(root: bytes, pid: int, mapping: _Mapping) -> Iterator[bytes]:
    link = b"/proc/%d/map_files/%s" % (pid, mapping.place)
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # no home, so nothing is mapped in it
    try:
        if os.stat(link).st_dev == os.fstat(fd).st_dev:
            path = kernel.path_of(fd, kernel.handle_of(fd, link)[0])
            if path is not None and path.startswith(root):
                yield path[len(root) :]
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH, errno.ESTALE, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(fd)


def _living(root: bytes, paths: Iterable[bytes]) -> Iterator[bytes]:
    """Without files that have no name any more, and names that were only one way to read a line."""
    for path in paths:
        doubtful = path.endswith(_DELETED) or b"\n" in path or rb"\012" in path
        if not doubtful or os.path.lexists(root + path):
            yield path


def _is_thread(pid: int) -> bool:
    """Whether it is one of the kernel."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return bool(int(file.read(4096).rpartition(b")")[2].split()[6]) & _PF_KTHREAD)
    except OSError:
        return False
