"""What is in a sealed pack, read without the catalog: by its index, or record by record when the index is damaged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from relit.errors import BlobMissing, StoreCorrupt, VolumeDamaged
from relit.lib.ranges import read_ranges
from relit.manifest import ObjectInfo, Place
from relit.volumes.keys import Keys, ids_of
from relit.volumes.pack import (
    CHUNK,
    COMMITTED,
    CONSOLIDATED,
    DELTA,
    DROPPED,
    FOOTER,
    HEADER,
    INDEX,
    RECORD,
    DeltaRecord,
    Described,
    Index,
    Sealer,
    damaged,
    records,
)
from relit.volumes.upload import key_of

T = TypeVar("T", Index, DeltaRecord)


class Ranged(Protocol):
    """The part of ``Objects`` that is needed."""

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]: ...

    async def head(self, key: str) -> ObjectInfo | None: ...


class PackFile:
    """A pack in a file, instead of a blob store; keys are not looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of the file, short where it is."""
        return await asyncio.to_thread(self._read, ranges)

    def _read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        with open(self._path, "rb") as file:
            return read_ranges(file.fileno(), ranges)

    async def head(self, key: str) -> ObjectInfo | None:
        """Its size, or None."""
        if not await asyncio.to_thread(self._path.exists):
            return None
        found = await asyncio.to_thread(self._path.stat)
        return ObjectInfo(key, found.st_size, found.st_mtime_ns // 1_000_000)


class Walked(msgspec.Struct, frozen=True):
    """``end``: where the last whole record before the index ends. ``troubles``: records that do not open."""

    index: Index
    end: int
    troubles: list[VolumeDamaged]


class SealedPack:
    """One pack. Everything raises VolumeDamaged for what is not as it was written, and WrongKey."""

    def __init__(self, pack: str, source: Ranged, keys: Keys | None) -> None:
        self.pack = pack
        self._source = source
        self._keys = keys
        self._sealer: Sealer | None = None

    def forgive(self) -> None:
        """Take no heed of the header, which says nothing that is not known: a damaged one is no reason to lose all."""
        self._sealer = Sealer(self.pack, self._keys)

    async def index(self) -> Index:
        """What it holds, by its own word."""
        size = await self._size()
        sealer = await self._opened()
        start = max(0, size - FOOTER.size)
        offset, length = sealer.footer(await self._read(start, size - start), size)
        kind, content = await asyncio.to_thread(_open, sealer, await self._read(offset, length), offset)
        place = Place(self.pack, offset, length, len(content))
        if kind != INDEX:
            raise damaged(place, "it is not an index")
        return _decoded(content, Index, place)

    async def delta(self, described: Described) -> DeltaRecord:
        """A manifest record that the index lists."""
        sealer, place = await self._opened(), described.place(self.pack)
        data = await self._read(described.offset, described.length)
        kind, found = await asyncio.to_thread(_delta, sealer, data, place)
        told = (found.volume.id, found.snapshot.number, found.snapshot.id)
        if kind != DELTA or told != (described.volume, described.number, described.snapshot):
            raise damaged(place, "it describes another snapshot than the index says")
        return found

    async def walk(self) -> Walked:
        """What it holds, by opening every record: reads all of it. For a pack whose index is damaged."""
        sealer, size = await self._opened(), await self._size()
        return await asyncio.to_thread(walk, await self._read(0, size), sealer, self._keys)

    async def _opened(self) -> Sealer:
        if self._sealer is None:
            self._sealer = Sealer.of(await self._read(0, HEADER.size), self.pack, self._keys)
        return self._sealer

    async def _size(self) -> int:
        found = await self._source.head(key_of(self.pack))
        if found is None:
            raise damaged(Place(self.pack, 0, 0, 0), "it is not there")
        return found.size

    async def _read(self, offset: int, length: int) -> bytes:
        try:
            return (await self._source.get_ranges(key_of(self.pack), [(offset, length)]))[0]
        except (StoreCorrupt, BlobMissing) as error:
            raise damaged(Place(self.pack, offset, length, 0), error.why) from error


def walk(data: bytes, sealer: Sealer, keys: Keys | None) -> Walked:
    """Every record of a pack's bytes.

    Of several deltas for the same snapshot number the last one counts: those before it were dropped.
    """
    index, troubles, id_of = Index([], []), list[VolumeDamaged](), ids_of(keys)
    latest: dict[tuple[str, int], Described] = {}
    end = HEADER.size
    for kind, place in records(data):
        if kind == INDEX:
            break
        here = Place(sealer.pack, place.offset, place.length, place.raw)
        end = here.offset + here.length
        try:
            _, content = sealer.open(data[here.offset : end], here)
            if kind == CHUNK:
                index.chunks.append((id_of(content), here.offset, here.length, here.raw))
            else:
                made = _described(_decoded(content, DeltaRecord, here), here)
                index.manifests.append(made)
                if made.role != CONSOLIDATED:
                    latest[made.volume, made.number] = made
        except VolumeDamaged as error:
            troubles.append(error)
    return Walked(Index(index.chunks, [_settled(each, latest) for each in index.manifests]), end, troubles)


def _described(found: DeltaRecord, place: Place) -> Described:
    role = CONSOLIDATED if found.consolidated else COMMITTED
    snapshot = found.snapshot
    return Described(
        found.volume.id, snapshot.number, snapshot.id, role, place.offset, place.length, place.raw, found.base
    )


def _settled(each: Described, latest: dict[tuple[str, int], Described]) -> Described:
    if each.role == CONSOLIDATED or latest[each.volume, each.number].snapshot == each.snapshot:
        return each
    return msgspec.structs.replace(each, role=DROPPED)


def _open(sealer: Sealer, record: bytes, offset: int) -> tuple[int, bytes]:
    raw = RECORD.unpack(record[: RECORD.size])[4] if len(record) >= RECORD.size else 0
    return sealer.open(record, Place(sealer.pack, offset, len(record), raw))


def _delta(sealer: Sealer, data: bytes, place: Place) -> tuple[int, DeltaRecord]:
    kind, content = sealer.open(data, place)
    return kind, _decoded(content, DeltaRecord, place)


def _decoded(content: bytes, type: type[T], place: Place) -> T:
    try:
        return msgspec.msgpack.decode(content, type=type)
    except msgspec.MsgspecError as error:
        raise damaged(place, str(error)) from error
