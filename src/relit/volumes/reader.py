"""Chunks by their ids, from the spool or the blob store, each proven to be what was written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence

from relit.errors import BlobMissing, StoreCorrupt, VolumeDamaged
from relit.manifest import Place
from relit.volumes.base import Catalog, Objects
from relit.volumes.fetched import Batch, Fetched, Part
from relit.volumes.keys import Keys
from relit.volumes.pack import HEADER, Data, Sealer, damaged
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
        id_of: Callable[[Data], bytes],
    ) -> None:
        self._catalog = catalog
        self._spool = spool
        self._objects = objects
        self._keys = keys
        self._id_of = id_of
        self._sealers: dict[str, Sealer] = {}

    async def stream(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, Data]]:
        """Each distinct chunk once, in the order in which they lie in packs."""
        async for fetched in self.batches(ids):
            for item in (await asyncio.to_thread(fetched.open)).items():
                yield item

    async def fetch(self, ids: Sequence[bytes]) -> Fetched:
        """The records of these chunks, however many."""
        return self._fetched([await self._records(each) for each in await self._ordered(ids)])

    async def batches(self, ids: Sequence[bytes]) -> AsyncIterator[Fetched]:
        """The same in parts of bounded size, in the order in which they lie in packs."""
        for batch in await self._ordered(ids):
            yield self._fetched([await self._records(batch)])

    def _fetched(self, parts: Sequence[Part]) -> Fetched:
        return Fetched(parts, self._sealers.__getitem__, self._id_of)

    async def _ordered(self, ids: Sequence[bytes]) -> list[Batch]:
        wanted = list(dict.fromkeys(ids))
        places = await self._catalog.places(wanted)
        for id in wanted:
            if id not in places:
                raise VolumeDamaged(
                    f"chunk {id.hex()} is in no pack", why="the catalog does not know it", fix="relit volume verify"
                )
        return _batches(sorted(places.items(), key=lambda item: (item[1].pack, item[1].offset)))

    async def _records(self, batch: Batch) -> Part:
        pack, places = batch[0][1].pack, [place for _, place in batch]
        records: list[bytes] | None = []
        if not (files := self._near(pack)):
            records = await asyncio.to_thread(self._spool.fetch_all, pack, places)
        if records is None:
            records = await self._get(pack, places)
        await self._know(pack)
        return Part(pack, batch, records, files)

    def _near(self, pack: str) -> list[str]:
        """The files on this machine one of which has that pack from now on, in the order in which it goes from one to
        the next; none when it may move to another machine."""
        stored = self._objects.local(key_of(pack))
        if stored is None:
            return []
        files = [os.fspath(path) for path in (*self._spool.files(pack), stored)]
        return files if any(map(os.path.exists, files)) else []

    async def _get(self, pack: str, places: Sequence[Place]) -> list[bytes]:
        try:
            return await self._objects.get_ranges(key_of(pack), [(each.offset, each.length) for each in places])
        except BlobMissing as error:
            raise damaged(places[0], f"the pack is not in {self._objects.url}") from error
        except StoreCorrupt as error:  # of the places asked for, the last one is outside for sure
            raise damaged(max(places, key=lambda each: each.offset), error.why) from error

    async def _know(self, pack: str) -> None:
        """Have the pack's sealer. WrongKey."""
        if pack not in self._sealers:
            place = Place(pack, 0, HEADER.size, 0)
            head = await asyncio.to_thread(self._spool.fetch, place)
            if head is None:
                head = (await self._get(pack, [place]))[0]
            self._sealers[pack] = _sealer_of(head, pack, self._keys)


def _sealer_of(head: bytes, pack: str, keys: Keys | None) -> Sealer:
    """Also when the header is damaged: it says nothing that is not known, and every record proves itself."""
    try:
        return Sealer.of(head, pack, keys)
    except VolumeDamaged:
        return Sealer(pack, keys)


def _batches(ordered: Sequence[tuple[bytes, Place]]) -> list[Batch]:
    """Runs of places of one pack, of bounded size."""
    batches: list[Batch] = []
    size = 0
    for item in ordered:
        if not batches or batches[-1][0][1].pack != item[1].pack or size >= _BATCH:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += item[1].raw
    return batches
