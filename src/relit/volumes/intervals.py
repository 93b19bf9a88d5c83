"""A volume's intervals from its manifest records: how the manifest is rebuilt. Pure.

A record tells a snapshot as a difference to an earlier one, its *base*, or from nothing (base 0). ``chain`` finds
records that follow each other; ``Intervals`` applies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from relit.manifest import Delta, Entry, Place, Segment, Snapshot

EntrySpan = tuple[int, int | None, Entry]
SegmentSpan = tuple[int, int | None, Segment]


class Link(Protocol):
    """What is told of a record without reading it."""

    @property
    def number(self) -> int: ...

    @property
    def base(self) -> int: ...


L = TypeVar("L", bound=Link)


def chain(links: Sequence[L]) -> list[L]:
    """The records to apply, in order: they end at the newest snapshot that can be reached, and pass through as many
    others as possible. Of several for one step the last one given counts."""
    steps = {(each.base, each.number): each for each in links}
    for last in sorted({each.number for each in links}, reverse=True):
        found = _ending_at(last, steps)
        if found:
            return found
    return []


def _ending_at(last: int, steps: dict[tuple[int, int], L]) -> list[L]:
    """Backwards: from which snapshots ``last`` can be reached; then forwards by the shortest steps."""
    after: dict[int, list[int]] = {}
    for base, number in steps:
        after.setdefault(base, []).append(number)
    leads = {last}
    for base in sorted(after, reverse=True):
        if base and any(number in leads for number in after[base]):
            leads.add(base)
    found: list[L] = []
    at = 0
    while at != last:
        onwards = [number for number in after.get(at, ()) if number in leads]
        if not onwards:
            return []
        found.append(steps[at, min(onwards)])
        at = min(onwards)
    return found


class Intervals:
    """What is known of one volume: closed intervals, and those that are open still."""

    def __init__(self) -> None:
        self.snapshots: list[tuple[Snapshot, Place | None]] = []
        self._entries: list[EntrySpan] = []
        self._segments: list[SegmentSpan] = []
        self._open: dict[bytes, tuple[int, Entry]] = {}
        self._tails: dict[bytes, dict[int, tuple[int, Segment]]] = {}

    def apply(self, snapshot: Snapshot, delta: Delta, place: Place | None) -> None:
        """Add the next snapshot of a chain."""
        number = snapshot.number
        if delta.full:
            self._close_all(number)
        for path in delta.gone:
            self._close(path, number)
        for path, count in delta.cut:
            self._cut(path, count, number)
        for entry in delta.entries:
            self._close(entry.path, number)
            self._open[entry.path] = (number, entry)
        for segment in delta.segments:
            self._close_segment(segment.path, segment.no, number)
            self._tails.setdefault(segment.path, {})[segment.no] = (number, segment)
        self.snapshots.append((snapshot, place))

    def entries(self) -> list[EntrySpan]:
        """All entry intervals, closed and open."""
        return self._entries + [(since, None, entry) for since, entry in self._open.values()]

    def segments(self) -> list[SegmentSpan]:
        """All segment intervals, closed and open."""
        tails = [(since, None, segment) for file in self._tails.values() for since, segment in file.values()]
        return self._segments + tails

    def _close_all(self, number: int) -> None:
        for path in list(self._open):
            self._close(path, number)
        for path in list(self._tails):
            self._cut(path, 0, number)

    def _close(self, path: bytes, number: int) -> None:
        known = self._open.pop(path, None)
        if known is not None:
            self._entries.append((known[0], number, known[1]))

    def _cut(self, path: bytes, count: int, number: int) -> None:
        for no in [no for no in self._tails.get(path, {}) if no >= count]:
            self._close_segment(path, no, number)

    def _close_segment(self, path: bytes, no: int, number: int) -> None:
        known = self._tails.get(path, {}).pop(no, None)
        if known is not None:
            self._segments.append((known[0], number, known[1]))


Span = TypeVar("Span", EntrySpan, SegmentSpan)


def kept(spans: Sequence[Span], numbers: Sequence[int]) -> list[Span]:
    """Intervals in which a snapshot lies (``numbers``: ascending); what ends after the newest of them goes on."""
    newest = numbers[-1] if numbers else 0
    found: list[Span] = []
    for since, until, what in spans:
        if any(since <= number and (until is None or number < until) for number in numbers):
            end = until if until is not None and until <= newest else None
            found.append((since, end, what))  # one kind in, the same kind out
    return found
