"""The catalog out of packs alone: volumes that the store has lost, with all their snapshots that can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from relit.errors import Conflict, VolumeDamaged
from relit.lib.crashpoints import point
from relit.lib.names import shown
from relit.manifest import ID_BYTES, ObjectInfo, Pack, Place, Snapshot, Volume
from relit.volumes.base import Catalog, Objects
from relit.volumes.intervals import Intervals, chain, kept
from relit.volumes.pack import DROPPED, Described, Index
from relit.volumes.packindex import SealedPack

POINTS: tuple[str, ...] = ("volumes.rebuild.chunks", "volumes.rebuild.volume")


class Rebuilt(msgspec.Struct, kw_only=True):
    """What was put back. ``problems``: what could not be, and why."""

    volumes: int = 0
    snapshots: int = 0
    packs: int = 0
    chunks: int = 0
    problems: list[str] = []


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


class Rebuilder:
    """``open_pack`` answers the reader of a stored pack."""

    def __init__(self, catalog: Catalog, objects: Objects, open_pack: Callable[[str], SealedPack], node: str) -> None:
        self._catalog = catalog
        self._objects = objects
        self._open = open_pack
        self._node = node
        self._packs: dict[str, SealedPack] = {}

    async def rebuild(self) -> Rebuilt:
        """Nothing that the catalog has is changed; run it as often as you like. A list that fails ends it."""
        done = Rebuilt()
        records: dict[str, list[Record]] = {}
        known = {pack.id for pack in await self._catalog.packs()}
        found = [each async for each in self._objects.list("packs/")]
        for info in sorted(found, key=lambda each: (each.modified_ms, each.key)):
            await self._pack(info, known, records, done)
        there = {volume.id for volume in await self._catalog.volumes()}
        for volume in sorted(records.keys() - there):
            try:
                await self._volume(records[volume], done)
            except Conflict as taken:  # by a volume that was begun anew; it stays as it is
                done.problems.append(f"{taken.what}: {taken.why}")
            point("volumes.rebuild.volume")
        return done

    async def _pack(self, info: ObjectInfo, known: set[str], records: dict[str, list[Record]], done: Rebuilt) -> None:
        pack = info.key.rpartition("/")[2]
        try:
            index = await self._index(pack, done)
        except (VolumeDamaged, ValueError) as error:
            done.problems.append(f"{info.key} was left out: {error}")
            return
        for each in index.manifests:
            records.setdefault(each.volume, []).append(Record(pack, each))
        if pack not in known:
            chunks = [(id, Place(pack, offset, length, raw)) for id, offset, length, raw in index.chunks]
            await self._catalog.load_chunks(chunks, [self._row(pack, info)])
            point("volumes.rebuild.chunks")
            done.packs += 1
            done.chunks += len(chunks)

    async def _index(self, pack: str, done: Rebuilt) -> Index:
        opened = self._packs[pack] = self._open(pack)
        try:
            return await opened.index()
        except VolumeDamaged as error:
            done.problems.append(f"the index of pack {pack} cannot be read, so every record was: {error.why}")
            opened.forgive()
            walked = await opened.walk()
            done.problems += [str(each) for each in walked.troubles]
            return walked.index

    def _row(self, pack: str, info: ObjectInfo) -> Pack:
        return Pack(
            id=pack,
            node=self._node,
            state="stored",
            size=info.size,
            created_at_ms=info.modified_ms,
            stored_at_ms=info.modified_ms,
        )

    async def _volume(self, records: Sequence[Record], done: Rebuilt) -> None:
        intervals, volume = Intervals(), None
        left = _usable(records)
        while volume is None and (steps := chain(left)):
            try:
                intervals, volume = await self._applied(steps)
            except _Unreadable as unreadable:
                done.problems.append(f"a manifest record was left out: {unreadable.error}")
                left.remove(unreadable.record)
        if volume is None:
            done.problems.append(f"volume {records[0].of.volume} has no tree to begin from")
            return
        await self._load(volume, intervals, done)

    async def _applied(self, records: Sequence[Record]) -> tuple[Intervals, Volume | None]:
        intervals, volume = Intervals(), None
        for record in records:
            try:
                found = await self._packs[record.pack].delta(record.of)
            except VolumeDamaged as error:
                raise _Unreadable(record, error) from error
            place = record.of.place(record.pack)
            intervals.apply(_stored(found.snapshot), found.delta, place)
            volume = found.volume
        return intervals, volume

    async def _load(self, volume: Volume, intervals: Intervals, done: Rebuilt) -> None:
        lost = await self._lost(volume.name, intervals, done)
        snapshots = [each for each in intervals.snapshots if each[0].number not in lost]
        if not snapshots:
            done.problems.append(f"no snapshot of {volume.name} is whole")
            return
        numbers = [snapshot.number for snapshot, _ in snapshots]
        await self._catalog.load(
            msgspec.structs.replace(volume, newest=numbers[-1]),
            snapshots,
            kept(intervals.entries(), numbers),
            kept(intervals.segments(), numbers),
        )
        done.volumes += 1
        done.snapshots += len(snapshots)

    async def _lost(self, name: str, intervals: Intervals, done: Rebuilt) -> set[int]:
        """Numbers of snapshots that need a chunk which no pack holds."""
        spans = [(since, until, each.path, each.parts) for since, until, each in intervals.entries()]
        spans += [(since, until, each.path, each.ids) for since, until, each in intervals.segments()]
        wanted = {id for *_, ids in spans for id in _split(ids)}
        missing = wanted - (await self._catalog.places(sorted(wanted))).keys()
        lost: set[int] = set()
        for since, until, path, ids in spans if missing else []:
            if not missing.isdisjoint(_split(ids)):
                gone = {
                    s.number
                    for s, _ in intervals.snapshots
                    if s.number >= since and (until is None or s.number < until)
                }
                if gone - lost:
                    done.problems.append(
                        f"{name}: snapshots {_numbers(gone)} were left out: a chunk of {shown(path)} is in no pack; "
                        "they were pruned, or a pack is lost"
                    )
                lost |= gone
        return lost


def _usable(records: Sequence[Record]) -> list[Record]:
    """A record whose snapshot was not seen to be committed may have been: it counts where no other tells its number."""
    told = {each.number for each in records if each.of.role != DROPPED}
    return [each for each in records if each.of.role != DROPPED or each.number not in told]


class _Unreadable(Exception):
    def __init__(self, record: Record, error: VolumeDamaged) -> None:
        super().__init__(record, error)
        self.record, self.error = record, error


def _stored(snapshot: Snapshot) -> Snapshot:
    at = snapshot.stored_at_ms or snapshot.local_at_ms or snapshot.at_ms
    return msgspec.structs.replace(snapshot, stored_at_ms=at)


def _split(ids: bytes) -> list[bytes]:
    return [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]


def _numbers(numbers: set[int]) -> str:
    some = sorted(numbers)
    return ", ".join(map(str, some[:10])) + (" …" if len(some) > 10 else "")
