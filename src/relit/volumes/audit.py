"""Whether the manifest in the store is what packs tell: no bit of it flipped, no row lost, every chunk in some pack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from zlib import crc32

from relit.errors import VolumeDamaged
from relit.manifest import Delta, ManifestRow, Volume
from relit.volumes.base import Catalog
from relit.volumes.findings import Damage
from relit.volumes.intervals import chain
from relit.volumes.pack import DeltaRecord
from relit.volumes.packindex import SealedPack
from relit.volumes.spans import Spans, add, differing, ids_in, summed_body, thin
from relit.volumes.told import Record, Told, of_these, told

_AT_ONCE = 32 << 20
_TRIES = 3
_NAMED = 100  # paths of a damage that are told
MENDS = "relit volume rebuild"
Hit = dict[bytes, set[int]]  # by path: numbers of snapshots


class Audit:
    """Made for one round: it remembers which records packs have. ``open_pack`` answers the reader of a stored pack;
    ``at_once``: bytes of records whose rows are compared together, so that memory is bounded."""

    def __init__(self, catalog: Catalog, open_pack: Callable[[str], SealedPack], *, at_once: int = _AT_ONCE) -> None:
        self._catalog = catalog
        self._open = open_pack
        self._at_once = at_once
        self._packs: dict[str, SealedPack] = {}
        self._indexes: dict[str, list[Record]] = {}

    async def check(self, volume: Volume) -> tuple[list[Damage], list[str]]:
        """(damage, what could not be compared). Snapshots that are not in the blob store yet are not looked at."""
        for _ in range(_TRIES):
            before = await self.snapshots(volume)
            found = await self._compare(volume, before)
            after = await self.snapshots(volume)
            if not found[0] or before.items() <= after.items():  # else rows went with snapshots that were dropped
                return found
        return [], [f"the manifest of {volume.name} was not compared: its snapshots were dropped meanwhile"]

    async def snapshots(self, volume: Volume) -> dict[int, str]:
        """Ids of all that there are, by number."""
        return {each.number: each.id for each in await self._catalog.snapshots(volume.id, limit=2**31)}

    async def records(self, volume: Volume, snapshots: dict[int, str]) -> list[Record]:
        """Those that tell these snapshots, out of packs that the catalog knows. Packs that lead to snapshots which are
        gone are looked for only if they are needed."""
        stored = [pack.id for pack in await self._catalog.packs(("stored",))]
        described = await self._catalog.described_in(volume.id)
        near = [pack for pack in stored if pack in described.values()]
        found: list[Record] = []
        for some in (near, stored):
            records = [each for pack in some for each in await self._index(pack) if each.of.volume == volume.id]
            found = of_these(records, snapshots, some)
            if {number for number, pack in described.items() if pack in near} <= {e.number for e in chain(found)}:
                break
        return found

    async def _index(self, pack: str) -> list[Record]:
        if pack not in self._indexes:
            self._packs[pack] = self._open(pack)
            try:
                index = await self._packs[pack].index()
            except VolumeDamaged:  # told by who reads the pack
                return []
            self._indexes[pack] = [Record(pack, each) for each in index.manifests]
        return self._indexes[pack]

    async def read(self, record: Record) -> DeltaRecord:
        """One of the records. VolumeDamaged."""
        return await self._packs[record.pack].delta(record.of)

    # --- comparing ---------------------------------------------------------------------------------------------

    async def _compare(self, volume: Volume, snapshots: dict[int, str]) -> tuple[list[Damage], list[str]]:
        records = await self.records(volume, snapshots)
        passes = 1 + sum(each.of.raw for each in records) // self._at_once
        hit: Hit = {}
        for turn in range(passes):
            counts = partial(_has_turn, passes, turn)
            said = await told(records, self.read, partial(_thinned, counts))
            numbers = [number for number in said.numbers if number in snapshots]
            hit |= differing(_of_packs(said, numbers), await self._of_rows(volume, numbers, counts), numbers)
        lost = await self._unplaced(volume, sorted(snapshots))
        damage = _named(volume.name, "the manifest is not what packs tell", hit)
        damage += _named(volume.name, "chunks are in no pack", {path: lost[path] for path in lost.keys() - hit.keys()})
        return damage, await self._untold(volume, snapshots.keys() - set(numbers))

    async def _of_rows(self, volume: Volume, numbers: Sequence[int], counts: Callable[[bytes], bool]) -> Spans:
        spans: Spans = {}

        def take(page: Sequence[ManifestRow]) -> None:
            for row in page:
                if counts(row.path):
                    add(spans, (row.path, row.no), row.since, row.until, summed_body(row.body, row.no), numbers)

        async for page in self._catalog.rows(volume.id):
            await asyncio.to_thread(take, page)
        return spans

    async def _unplaced(self, volume: Volume, numbers: Sequence[int]) -> Hit:
        """Where a chunk is needed that no pack has. Rows that cannot be read are found by comparing."""
        found: Hit = {}
        async for page in self._catalog.rows(volume.id):
            ids = [(row, ids_in(row)) for row in page]
            wanted = {id for _, some in ids for id in some}
            missing = wanted - (await self._catalog.places(sorted(wanted))).keys()
            for row, some in ids if missing else ():
                if not missing.isdisjoint(some):
                    found.setdefault(row.path, set()).update(_inside(row, numbers))
        return {path: hit for path, hit in found.items() if hit}

    async def _untold(self, volume: Volume, numbers: set[int]) -> list[str]:
        stored = {pack.id for pack in await self._catalog.packs(("stored",))}
        described = await self._catalog.described_in(volume.id)
        if some := sorted(number for number in numbers if described.get(number) in stored):
            return [
                f"{volume.name}: snapshots {some[0]} to {some[-1]} were not compared: packs do not tell all of them"
            ]
        return []


async def _thinned(counts: Callable[[bytes], bool], delta: Delta) -> Delta:
    return await asyncio.to_thread(thin, delta, counts)


def _has_turn(passes: int, turn: int, path: bytes) -> bool:
    return crc32(path) % passes == turn


def _of_packs(said: Told, numbers: Sequence[int]) -> Spans:
    spans: Spans = {}
    for since, until, entry in said.intervals.entries():
        add(spans, (entry.path, -1), since, until, entry.parts, numbers)
    for since, until, segment in said.intervals.segments():
        add(spans, (segment.path, segment.no), since, until, segment.ids, numbers)
    return spans


def _inside(row: ManifestRow, numbers: Sequence[int]) -> list[int]:
    return [number for number in numbers if row.since <= number and (row.until is None or number < row.until)]


def _named(agent: str, what: str, hit: Hit) -> list[Damage]:
    """One damage for all paths that are hit in the same snapshots."""
    alike: dict[tuple[int, ...], list[bytes]] = {}
    for path in sorted(hit):
        alike.setdefault(tuple(sorted(hit[path])), []).append(path)
    return [
        Damage(what=f"{what}: {len(paths)} paths", volume=agent, snapshots=[*numbers], paths=paths[:_NAMED], fix=MENDS)
        for numbers, paths in alike.items()
    ]
