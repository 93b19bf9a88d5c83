"""A volume's intervals from its deltas: how the manifest is rebuilt. Pure.

Deltas are applied in the order of their numbers. A hole in the numbers is fine when the delta after it is full
(``Delta.full``); otherwise everything from the hole on cannot be known, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relit.manifest import Delta, Entry, Place, Segment, Snapshot

EntrySpan = tuple[int, int | None, Entry]
SegmentSpan = tuple[int, int | None, Segment]


class Intervals:
    """What is known of one volume: closed intervals, and those that are open still."""

    def __init__(self) -> None:
        self.snapshots: list[tuple[Snapshot, Place | None]] = []
        self.newest = 0
        self._entries: list[EntrySpan] = []
        self._segments: list[SegmentSpan] = []
        self._open: dict[bytes, tuple[int, Entry]] = {}
        self._tails: dict[bytes, dict[int, tuple[int, Segment]]] = {}

    def begin(
        self,
        snapshots: Sequence[tuple[Snapshot, Place | None]],
        entries: Iterable[EntrySpan],
        segments: Iterable[SegmentSpan],
    ) -> None:
        """Start from a consolidated manifest: everything up to its newest snapshot."""
        self.snapshots = sorted(snapshots, key=lambda each: each[0].number)
        self.newest = self.snapshots[-1][0].number if self.snapshots else 0
        for since, until, entry in entries:
            if until is None:
                self._open[entry.path] = (since, entry)
            else:
                self._entries.append((since, until, entry))
        for since, until, segment in segments:
            if until is None:
                self._tails.setdefault(segment.path, {})[segment.no] = (since, segment)
            else:
                self._segments.append((since, until, segment))

    def apply(self, snapshot: Snapshot, delta: Delta, place: Place | None) -> bool:
        """Add the next snapshot. False: it does not follow what is known, nothing was done."""
        number = snapshot.number
        if number <= self.newest or (number != self.newest + 1 and not delta.full):
            return False
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
        self.newest = number
        self.snapshots.append((snapshot, place))
        return True

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
