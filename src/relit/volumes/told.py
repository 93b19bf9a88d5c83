"""What packs tell of a volume: its manifest records, in the order in which they make its trees."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import msgspec

from relit.errors import VolumeDamaged
from relit.manifest import Delta, Volume
from relit.volumes.intervals import Intervals, chain
from relit.volumes.pack import DROPPED, DeltaRecord, Described


class Record(msgspec.Struct, frozen=True):
    """A manifest record and the pack it lies in."""

    pack: str
    of: Described

    @property
    def number(self) -> int:
        """The snapshot that it tells."""
        return self.of.number

    @property
    def base(self) -> int:
        """The snapshot that it starts from."""
        return self.of.base


class Told(msgspec.Struct, frozen=True):
    """``volume`` is ``None`` when no record has a tree to begin from. ``unreadable``: what was left out."""

    intervals: Intervals
    volume: Volume | None
    numbers: list[int]
    unreadable: list[VolumeDamaged]


async def told(
    records: Sequence[Record],
    read: Callable[[Record], Awaitable[DeltaRecord]],
    thinned: Callable[[Delta], Awaitable[Delta]] | None = None,
) -> Told:
    """Apply as many records as follow each other, those that can be read. ``thinned``: the part of each that counts."""
    left, unreadable = [*records], list[VolumeDamaged]()
    while steps := chain(left):
        intervals, volume = Intervals(), None
        for record in steps:
            try:
                found = await read(record)
            except VolumeDamaged as error:
                unreadable.append(error)
                left.remove(record)
                break
            delta = found.delta if thinned is None else await thinned(found.delta)
            intervals.apply(found.snapshot, delta, record.of.place(record.pack))
            volume = found.volume
        else:
            return Told(intervals, volume, [each.number for each in steps], unreadable)
    return Told(Intervals(), None, [], unreadable)


def usable(records: Sequence[Record]) -> list[Record]:
    """A record whose snapshot was not seen to be committed may have been: it counts where no other tells its number."""
    numbers = {each.number for each in records if each.of.role != DROPPED}
    return [each for each in records if each.of.role != DROPPED or each.number not in numbers]


def of_these(records: Sequence[Record], snapshots: Mapping[int, str], packs: Collection[str]) -> list[Record]:
    """Those in ``packs`` that tell these snapshots (id by number), and what leads to them."""
    newest = max(snapshots, default=0)
    return usable(
        [
            each
            for each in records
            if each.pack in packs
            and each.number <= newest
            and snapshots.get(each.number, each.of.snapshot) == each.of.snapshot
        ]
    )
