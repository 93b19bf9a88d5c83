"""Chunks by their ids, from the spool or the blob store, each proven to be what was written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from relit.errors import BlobMissing, StoreCorrupt, VolumeDamaged
from relit.manifest import Place
from relit.volumes.base import Catalog, Objects
from relit.volumes.keys import Keys
from relit.volumes.pack import CHUNK, HEADER, Sealer, damaged
from relit.volumes.spool import Spool
from relit.volumes.upload import key_of

_BATCH = 8 << 20  # bytes read together


class Chunks:
    """``id_of`` is the id function of the store's suite."""

    def __init__(
        self,
        catalog: Catalog,
        spool: Spool,
        objects: Objects,
        keys: Keys | None,
        id_of: Callable[[bytes | memoryview], bytes],
    ) -> None:
        self._catalog = catalog
        self._spool = spool
        self._objects = objects
        self._keys = keys
        self._id_of = id_of
        self._sealers: dict[str, Sealer] = {}

    async def read(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """These chunks. VolumeDamaged, StoreUnavailable."""
        return {id: data async for id, data in self.stream(ids)}

    async def stream(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """Each distinct chunk once, in the order in which they lie in packs."""
        wanted = list(dict.fromkeys(ids))
        places = await self._catalog.places(wanted)
        for id in wanted:
            if id not in places:
                raise VolumeDamaged(
                    f"chunk {id.hex()} is in no pack", why="the catalog does not know it", fix="relit volume verify"
                )
        ordered = sorted(places.items(), key=lambda item: (item[1].pack, item[1].offset))
        for batch in _batches(ordered):
            for id, data in await self._batch(batch):
                yield id, data

    async def _batch(self, batch: Sequence[tuple[bytes, Place]]) -> list[tuple[bytes, bytes]]:
        pack, places = batch[0][1].pack, [place for _, place in batch]
        records = await asyncio.to_thread(self._spool.fetch_all, pack, places)
        if records is None:
            records = await self._get(pack, places)
        sealer = await self._sealer(pack)
        return await asyncio.to_thread(self._open, sealer, batch, records)

    async def _get(self, pack: str, places: Sequence[Place]) -> list[bytes]:
        try:
            return await self._objects.get_ranges(key_of(pack), [(each.offset, each.length) for each in places])
        except BlobMissing as error:
            raise damaged(places[0], f"the pack is not in {self._objects.url}") from error
        except StoreCorrupt as error:  # of the places asked for, the last one is outside for sure
            raise damaged(max(places, key=lambda each: each.offset), error.why) from error

    def _open(
        self, sealer: Sealer, batch: Sequence[tuple[bytes, Place]], records: Sequence[bytes]
    ) -> list[tuple[bytes, bytes]]:
        opened = []
        for (id, place), record in zip(batch, records, strict=True):
            kind, data = sealer.open(record, place)
            if kind != CHUNK or self._id_of(data) != id:
                raise damaged(place, f"it does not hold chunk {id.hex()}")
            opened.append((id, data))
        return opened

    async def _sealer(self, pack: str) -> Sealer:
        known = self._sealers.get(pack)
        if known is None:
            place = Place(pack, 0, HEADER.size, 0)
            head = await asyncio.to_thread(self._spool.fetch, place)
            if head is None:
                head = (await self._get(pack, [place]))[0]
            known = self._sealers[pack] = _sealer_of(head, pack, self._keys)
        return known


def _sealer_of(head: bytes, pack: str, keys: Keys | None) -> Sealer:
    """Also when the header is damaged: it says nothing that is not known, and every record proves itself."""
    try:
        return Sealer.of(head, pack, keys)
    except VolumeDamaged:
        return Sealer(pack, keys)


def _batches(ordered: Sequence[tuple[bytes, Place]]) -> list[list[tuple[bytes, Place]]]:
    """Runs of places of one pack, of bounded size."""
    batches: list[list[tuple[bytes, Place]]] = []
    size = 0
    for item in ordered:
        if not batches or batches[-1][0][1].pack != item[1].pack or size >= _BATCH:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += item[1].raw
    return batches
