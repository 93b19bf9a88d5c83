"""Parts of a file, read with few system calls."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from relit.lib.pages import was_read

_GAP = 16 << 10  # bytes between two parts that are cheaper to read than to leap over
_TOGETHER = 8 << 20


def read_ranges(fd: int, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """(offset, length) each; short where the file ends."""
    found: list[bytes] = []
    for start, end, inside in _runs(ranges):
        data = _pread(fd, end - start, start)
        found += [data] if len(inside) == 1 else [data[at - start : at - start + length] for at, length in inside]
    return found


def _pread(fd: int, length: int, offset: int) -> bytes:
    """All of it, or up to the file's end: before a bad sector a read is short, and the next one raises OSError."""
    data = os.pread(fd, length, offset)
    while len(data) < length and (more := os.pread(fd, length - len(data), offset + len(data))):
        data += more
    was_read(fd, offset, len(data))
    return data


def _runs(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(start, end, what lies in it) of neighbours in the order given."""
    run: list[tuple[int, int]] = []
    start = end = 0
    for offset, length in ranges:
        if run and not (end <= offset <= end + _GAP and offset + length - start <= _TOGETHER):
            yield start, end, run
            run = []
        if not run:
            start = offset
        run.append((offset, length))
        end = offset + length
    if run:
        yield start, end, run
