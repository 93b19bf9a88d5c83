"""The catalog out of packs alone: volumes that the store has lost, with all their snapshots that can be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import msgspec

from relit.errors import Conflict, VolumeDamaged
from relit.lib.crashpoints import point
from relit.lib.names import shown
from relit.manifest import ID_BYTES, ObjectInfo, Pack, Place, Snapshot, Volume
from relit.volumes.audit import Audit
from relit.volumes.base import Catalog, Objects
from relit.volumes.intervals import Intervals, kept
from relit.volumes.pack import DeltaRecord, Index
from relit.volumes.packindex import SealedPack
from relit.volumes.told import Record, told, usable

POINTS: tuple[str, ...] = ("volumes.rebuild.chunks", "volumes.rebuild.volume")


class Rebuilt(msgspec.Struct, kw_only=True):
    """What was put back. ``mended``: agents whose manifest was not what packs tell; ``problems``: what could not be put
    back, and why."""

    volumes: int = 0
    mended: list[str] = []
    snapshots: int = 0
    packs: int = 0
    chunks: int = 0
    problems: list[str] = []


class Rebuilder:
    """``open_pack`` answers the reader of a stored pack; inside of ``at_rest`` no snapshot of an agent is taken;
    ``flush`` brings the spool to the blob store."""

    def __init__(
        self,
        catalog: Catalog,
        objects: Objects,
        open_pack: Callable[[str], SealedPack],
        node: str,
        *,
        at_rest: Callable[[str], AbstractAsyncContextManager[None]] = lambda agent: nullcontext(),
        flush: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._catalog = catalog
        self._objects = objects
        self._open = open_pack
        self._node = node
        self._at_rest = at_rest
        self._flush = flush
        self._packs: dict[str, SealedPack] = {}

    async def rebuild(self) -> Rebuilt:
        """What the catalog has is changed only where it is not what packs tell; run it as often as you like. A list
        that fails ends it."""
        done = Rebuilt()
        records: dict[str, list[Record]] = {}
        known = {pack.id for pack in await self._catalog.packs()}
        found = [each async for each in self._objects.list("packs/")]
        for info in sorted(found, key=lambda each: (each.modified_ms, each.key)):
            await self._pack(info, known, records, done)
        there = await self._catalog.volumes()
        for id in sorted(records.keys() - {volume.id for volume in there}):
            try:
                await self._volume(records[id], done)
            except Conflict as taken:  # by a volume that was begun anew; it stays as it is
                done.problems.append(f"{taken.what}: {taken.why}")
            point("volumes.rebuild.volume")
        for volume in there:
            await self._mend(volume, done)
        return done

    async def _pack(self, info: ObjectInfo, known: set[str], records: dict[str, list[Record]], done: Rebuilt) -> None:
        pack = info.key.rpartition("/")[2]
        try:
            index, whole = await self._index(pack, done)
        except (VolumeDamaged, ValueError) as error:
            done.problems.append(f"{info.key} was left out: {error}")
            return
        for each in index.manifests:
            records.setdefault(each.volume, []).append(Record(pack, each))
        chunks = [(id, Place(pack, offset, length, raw)) for id, offset, length, raw in index.chunks]
        if pack not in known:
            await self._catalog.load_chunks(chunks, [self._row(pack, info)])
            point("volumes.rebuild.chunks")
            done.packs += 1
            done.chunks += len(chunks)
        elif whole:
            await self._right(pack, chunks, done)

    async def _right(self, pack: str, chunks: Sequence[tuple[bytes, Place]], done: Rebuilt) -> None:
        """What the catalog says of a pack that it knows becomes what the pack says itself."""
        rows = await self._catalog.chunks_of(pack)
        wrong = set(rows) - set(chunks)
        missing = {id for id, _ in chunks} - {id for id, _ in rows}
        if wrong or missing:
            await self._catalog.replace_chunks(pack, chunks)
            done.chunks += max(len(wrong), len(missing))

    async def _index(self, pack: str, done: Rebuilt) -> tuple[Index, bool]:
        """(what it says of itself, or what was found in it; whether that is all)."""
        opened = self._packs[pack] = self._open(pack)
        try:
            return await opened.index(), True
        except VolumeDamaged as error:
            done.problems.append(f"the index of pack {pack} cannot be read, so every record was: {error.why}")
            opened.forgive()
            walked = await opened.walk()
            done.problems += [str(each) for each in walked.troubles]
            return walked.index, False

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
        found = await told(usable(records), self._read)
        done.problems += [f"a manifest record was left out: {each}" for each in found.unreadable]
        if found.volume is None:
            done.problems.append(f"volume {records[0].of.volume} has no tree to begin from")
            return
        await self._load(found.volume, found.intervals, done)

    async def _read(self, record: Record) -> DeltaRecord:
        return await self._packs[record.pack].delta(record.of)

    async def _mend(self, volume: Volume, done: Rebuilt) -> None:
        """Put the rows of a volume that the catalog has right, if they are not what packs tell. Its snapshots, names
        and pins stay as they are."""
        damage, _ = await Audit(self._catalog, self._open).check(volume)
        if not damage:
            return
        if volume.node != self._node:
            done.problems.append(f"{volume.name} was not put right: node {volume.node} keeps it")
            return
        async with self._at_rest(volume.name):
            if self._flush is not None:
                await self._flush()
            if await self._replaced(await self._catalog.volume(volume.name), done):
                left, _ = await Audit(self._catalog, self._open).check(volume)
                done.mended += [volume.name] if left != damage else []
                done.problems += [f"{volume.name}: {each.what}, {', '.join(map(shown, each.paths))}" for each in left]

    async def _replaced(self, volume: Volume, done: Rebuilt) -> bool:
        audit = Audit(self._catalog, self._open)
        snapshots = await audit.snapshots(volume)
        found = await told(await audit.records(volume, snapshots), audit.read)
        if untold := snapshots.keys() - set(found.numbers):
            done.problems.append(f"{volume.name} was not put right: packs do not tell its snapshots {_numbers(untold)}")
            return False
        numbers = sorted(snapshots)
        entries, segments = kept(found.intervals.entries(), numbers), kept(found.intervals.segments(), numbers)
        await self._catalog.replace_trees(volume.id, volume.newest, entries, segments)
        return True

    async def _load(self, volume: Volume, intervals: Intervals, done: Rebuilt) -> None:
        lost = await self._lost(volume.name, intervals, done)
        snapshots = [(_stored(each), at) for each, at in intervals.snapshots if each.number not in lost]
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


def _stored(snapshot: Snapshot) -> Snapshot:
    at = snapshot.stored_at_ms or snapshot.local_at_ms or snapshot.at_ms
    return msgspec.structs.replace(snapshot, stored_at_ms=at)


def _split(ids: bytes) -> list[bytes]:
    return [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]


def _numbers(numbers: set[int]) -> str:
    some = sorted(numbers)
    return ", ".join(map(str, some[:10])) + (" …" if len(some) > 10 else "")
