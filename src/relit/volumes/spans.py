"""Whether two accounts of a volume say the same of each snapshot, row by row. Pure.

Numbers of intervals need not be the same in both: that of a snapshot which is gone means the next one that is there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec
from blake3 import blake3

from relit.manifest import ID_BYTES, Delta, Entry, ManifestRow, Segment

Key = tuple[bytes, int]  # path, and number of a segment or -1
Spans = dict[Key, list[tuple[int, int, bytes]]]  # places of the first snapshot and of the one after the last; content

_encode = msgspec.msgpack.Encoder().encode
_entry = msgspec.msgpack.Decoder(Entry)


def add(spans: Spans, key: Key, since: int, until: int | None, what: bytes, numbers: Sequence[int]) -> None:
    """Note an interval, if any of the snapshots ``numbers`` (ascending) lies in it."""
    first = bisect_left(numbers, since)
    end = len(numbers) if until is None else bisect_left(numbers, until)
    if first < end:
        spans.setdefault(key, []).append((first, end, what))


def differing(a: Spans, b: Spans, numbers: Sequence[int]) -> dict[bytes, set[int]]:
    """By path: the snapshots of which the two accounts say different things."""
    found: dict[bytes, set[int]] = {}
    for key in a.keys() | b.keys():
        one, other = (_merged(each.get(key, [])) for each in (a, b))
        if one != other:
            found.setdefault(key[0], set()).update(numbers[at] for at in _unlike(one, other))
    return found


def _merged(spans: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """What goes on as it was is one span. Spans that overlap stay as they are: they agree with nothing."""
    merged: list[tuple[int, int, bytes]] = []
    for first, end, what in sorted(spans):
        if merged and merged[-1][1] == first and merged[-1][2] == what:
            first = merged.pop()[0]
        merged.append((first, end, what))
    return merged


def _unlike(a: list[tuple[int, int, bytes]], b: list[tuple[int, int, bytes]]) -> set[int]:
    sides = [{(at, what) for first, end, what in spans for at in range(first, end)} for spans in (a, b)]
    twice = {at for spans in (a, b) for (_, end, _), (at, _, _) in pairwise(spans) if at < end}
    return {at for at, _ in sides[0] ^ sides[1]} | twice


def thin(delta: Delta, counts: Callable[[bytes], bool]) -> Delta:
    """The changes of those paths that count, with sums in the place of contents."""
    return Delta(
        full=delta.full,
        gone=delta.gone,
        cut=delta.cut,
        entries=[_thin(each) for each in delta.entries if counts(each.path)],
        segments=[
            Segment(each.path, each.no, summed_body(each.ids, each.no)) for each in delta.segments if counts(each.path)
        ],
    )


def _thin(entry: Entry) -> Entry:
    return Entry(entry.path, "file", 0, 0, 0, 0, parts=summed(entry))


def summed(entry: Entry) -> bytes:
    """A sum of everything that a restore brings back: inode and ctime only tell whether a file was touched."""
    plain = msgspec.structs.replace(entry, ino=0, ctime_ns=0)
    return blake3(_encode(plain)).digest(length=16)


def summed_body(body: bytes, no: int) -> bytes:
    """The same of a row as it lies in the store; empty for one that cannot be read."""
    if no >= 0:
        return blake3(body).digest(length=16)
    try:
        return summed(_entry.decode(body))
    except msgspec.MsgspecError:
        return b""


def ids_in(row: ManifestRow) -> list[bytes]:
    """The chunks that a row needs; none, if it cannot be read."""
    held = row.body
    if row.no < 0:
        try:
            held = _entry.decode(row.body).parts
        except msgspec.MsgspecError:
            return []
    return [held[at : at + ID_BYTES] for at in range(0, len(held), ID_BYTES)]
