"""Moves what processes hold out of memory, into swap, while they stand still. ``process_madvise`` with MADV_PAGEOUT
(Linux 5.10): for root, and whoever has CAP_SYS_NICE."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

PROCESS_MADVISE = 440  # the same on every architecture
MADV_PAGEOUT = 21
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (....) \S+ \S+ \d+ *(.*)$")
_BATCH = 512  # ranges in one call; the kernel takes 1,024
_KERNELS = ("[vvar", "[vdso", "[vsyscall")  # mappings that are none


class _Range(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def page_out(pids: Iterable[int]) -> int:
    """Bytes of which that was asked; what is shared or in use stays. Blocks: a second for a gigabyte. OSError: this
    process may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    return sum(_page_out(libc, pid) for pid in pids)


def allowed() -> bool:
    """Whether this process may: asked of itself."""
    try:
        page_out_nothing()
    except OSError:
        return False
    return True


def page_out_nothing() -> None:
    """The same question without an effect. OSError."""
    fd = os.pidfd_open(os.getppid() or os.getpid())
    try:
        _advise(ctypes.CDLL(None, use_errno=True), fd, [])
    finally:
        os.close(fd)


def swap_free() -> int:
    """Bytes of swap that are free."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("SwapFree:"):
            return int(line.split()[1]) << 10
    return 0


def _page_out(libc: ctypes.CDLL, pid: int) -> int:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return 0  # it ended meanwhile
    try:
        ranges = list(_ranges(pid))
        return sum(_batch(libc, fd, ranges[at : at + _BATCH]) for at in range(0, len(ranges), _BATCH))
    finally:
        os.close(fd)


def _batch(libc: ctypes.CDLL, fd: int, ranges: list[tuple[int, int]]) -> int:
    """One that the kernel refuses ends a call: it is left out, and the rest asked for again."""
    done = 0
    while ranges:
        try:
            told = _advise(libc, fd, ranges)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOMEM, errno.EBADF, errno.ESRCH):
                raise
            told = 0
        done += told
        while ranges and told >= ranges[0][1]:
            told -= ranges.pop(0)[1]
        ranges = ranges[1:]
    return done


def _advise(libc: ctypes.CDLL, fd: int, ranges: list[tuple[int, int]]) -> int:
    vector = (_Range * max(1, len(ranges)))(*[_Range(base, length) for base, length in ranges])
    told: int = libc.syscall(PROCESS_MADVISE, fd, vector, ctypes.c_size_t(len(ranges)), MADV_PAGEOUT, 0)
    if told < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return told


def _ranges(pid: int) -> Iterator[tuple[int, int]]:
    """(address, length) of everything that is its own."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            found = _MAPPING.match(line)
            if found is not None and found[3][3] == "p" and not found[4].startswith(_KERNELS):
                base, end = int(found[1], 16), int(found[2], 16)
                yield base, end - base
