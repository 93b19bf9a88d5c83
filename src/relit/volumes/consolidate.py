"""A volume's whole manifest, written to packs anew: the tree of its oldest snapshot, then each as a difference."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from relit.lib.crashpoints import point
from relit.manifest import SEGMENT, Change, Delta, Entry, Pack, Place, Segment, Snapshot, Volume
from relit.volumes.base import Catalog

POINTS: tuple[str, ...] = ("volumes.consolidate.written", "volumes.consolidate.described")
_ALL = 2**31


class Writing(Protocol):
    """What is needed of the spool."""

    def put_delta(
        self, volume: Volume, snapshot: Snapshot, delta: Delta, *, base: int | None = None, consolidated: bool = False
    ) -> Place: ...

    def settle(self, place: Place, committed: bool) -> None: ...

    def sync(self) -> list[Pack]: ...


class Consolidator:
    """Writes records from which a volume can be rebuilt without those that were there before."""

    def __init__(self, catalog: Catalog, spool: Writing) -> None:
        self._catalog = catalog
        self._spool = spool

    async def write(self, volume: Volume) -> set[str]:
        """All snapshots that there are now. Answers the packs that they went to."""
        snapshots = sorted(await self._catalog.snapshots(volume.id, limit=_ALL), key=lambda each: each.number)
        return {(await self._record(volume, each, base)).pack for each, base in _chain(snapshots)}

    async def describe(self, volume: Volume, snapshot: Snapshot) -> Place:
        """One snapshot from nothing: a fork's first."""
        return await self._record(volume, snapshot, 0)

    async def _record(self, volume: Volume, snapshot: Snapshot, base: int) -> Place:
        delta = await self._delta(volume.id, base, snapshot.number)
        at = await asyncio.to_thread(
            self._spool.put_delta, volume, snapshot, delta, base=base, consolidated=snapshot.reason != "fork"
        )
        done = False
        try:
            packs = await asyncio.to_thread(self._spool.sync)
            point("volumes.consolidate.written")
            await self._catalog.described(volume.id, snapshot.number, at, packs)
            done = True
        finally:
            self._spool.settle(at, done)
        point("volumes.consolidate.described")
        return at

    async def _delta(self, volume: str, base: int, number: int) -> Delta:
        if not base:
            return Delta(
                full=True,
                entries=await self._catalog.tree(volume, number),
                segments=await self._catalog.all_segments(volume, number),
            )
        changes = await self._catalog.changes(volume, base, number)
        long = [each.path for each in changes if _long(each.before) or _long(each.after)]
        before = await self._catalog.segments(volume, base, long)
        after = await self._catalog.segments(volume, number, long)
        return difference(changes, before, after)


def _chain(snapshots: Sequence[Snapshot]) -> list[tuple[Snapshot, int]]:
    """Each with the number of the one that it is told as a difference to; 0: from nothing."""
    return [(each, snapshots[at - 1].number if at else 0) for at, each in enumerate(snapshots)]


def _long(entry: Entry | None) -> bool:
    return entry is not None and entry.count > SEGMENT


def difference(changes: Sequence[Change], before: Sequence[Segment], after: Sequence[Segment]) -> Delta:
    """The delta between two trees. ``before``, ``after``: segments of the long files among the changes."""
    old = {(each.path, each.no): each.ids for each in before}
    new = {(each.path, each.no): each.ids for each in after}
    ends = {path: 0 for path, _ in old}
    for path, no in new:
        ends[path] = max(ends.get(path, 0), no + 1)
    return Delta(
        entries=[each.after for each in changes if each.after is not None],
        segments=[each for each in after if old.get((each.path, each.no)) != each.ids],
        gone=[each.path for each in changes if each.after is None],
        cut=[(path, end) for path, end in sorted(ends.items()) if any(p == path and no >= end for p, no in old)],
    )
