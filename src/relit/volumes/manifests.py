"""Which packs a volume would be rebuilt from, and what becomes of that without some of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from relit.manifest import Pack, Volume
from relit.volumes.base import Catalog
from relit.volumes.intervals import chain
from relit.volumes.pack import DROPPED, Described, Index


class Manifests:
    """``index`` answers what a stored pack says of itself. Made for one round; it remembers what it has read."""

    def __init__(self, catalog: Catalog, index: Callable[[str], Awaitable[Index]]) -> None:
        self._catalog = catalog
        self._index = index
        self._read: dict[str, list[Described]] = {}

    async def needed(self, packs: Sequence[Pack]) -> dict[str, int]:
        """By pack: bytes of the records by which snapshots are told now. A pack without is left out."""
        current = await self._current()
        found: dict[str, int] = {}
        for pack in packs:
            told = current.get(pack.id, set())
            records = await self._records(pack.id) if told else []
            if size := sum(each.length for each in records if (each.volume, each.number) in told):
                found[pack.id] = size
        return found

    async def _current(self) -> dict[str, set[tuple[str, int]]]:
        """By pack: the snapshots whose newest record lies there."""
        found: dict[str, set[tuple[str, int]]] = {}
        for volume in await self._catalog.volumes():
            for number, pack in (await self._catalog.described_in(volume.id)).items():
                found.setdefault(pack, set()).add((volume.id, number))
        return found

    async def broken_without(self, packs: Sequence[Pack]) -> list[Volume]:
        """The volumes that could not be rebuilt any more, with all their snapshots, if these packs went."""
        going = {pack.id for pack in packs}
        named = {each.volume for pack in packs for each in await self._records(pack.id)}
        some = [volume for volume in await self._catalog.volumes() if volume.id in named]
        return [volume for volume in some if not await self._whole_without(volume, going)]

    async def _whole_without(self, volume: Volume, going: set[str]) -> bool:
        places = await self._catalog.described_in(volume.id)
        if going & set(places.values()):
            return False
        stored = {pack.id for pack in await self._catalog.packs(("stored",))}
        if not set(places.values()) <= stored:
            return False  # its newest records are on their way: nobody can say yet
        records = [each for pack in set(places.values()) for each in await self._records(pack)]
        found = chain([each for each in records if each.volume == volume.id and each.role != DROPPED])
        return places.keys() <= {each.number for each in found}

    async def _records(self, pack: str) -> list[Described]:
        if pack not in self._read:
            self._read[pack] = (await self._index(pack)).manifests
        return self._read[pack]
