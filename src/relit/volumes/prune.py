"""Old snapshots go, and then what only they needed. In two phases, with a grace between them.

1. Snapshots that no tier keeps are dropped. Packs that nobody needs any more are *condemned*: from that moment no new
   snapshot may refer to them. Packs that are mostly dead are written anew first; the manifest of a volume that could
   not be rebuilt without the packs that go is written anew, too. All of that is in the blob store before anything is
   condemned.
2. When the grace is over, what is needed is found anew. A condemned pack that is needed after all is taken back; any
   other is deleted, first its object, then its rows.

A node prunes its own packs only. Any error while listing or reading ends the round before anything is dropped,
condemned or deleted: what was not seen is not known to be unused. So does a manifest that needs chunks which are in no
pack; and one that is not what packs tell is never written anew, nor are its packs condemned.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from relit.errors import NotFound, VolumeDamaged
from relit.lib.clock import Clock
from relit.lib.crashpoints import point
from relit.lib.names import shown
from relit.manifest import Pack, Place, Snapshot, Volume
from relit.volumes.audit import Audit
from relit.volumes.base import Catalog, Objects
from relit.volumes.consolidate import Consolidator
from relit.volumes.live import Need, dead, needed, sparse, total, without_records
from relit.volumes.manifests import Manifests
from relit.volumes.packindex import SealedPack
from relit.volumes.retention import YOUNG_MS, Dated, Tier, keep
from relit.volumes.upload import key_of

POINTS: tuple[str, ...] = (
    "volumes.prune.dropped",
    "volumes.prune.written",
    "volumes.prune.copied",
    "volumes.prune.consolidated",
    "volumes.prune.flushed",
    "volumes.prune.condemned",
    "volumes.prune.deleted",
    "volumes.prune.buried",
)
_ALL = 2**31
_COPIED = 512  # chunks moved together
_ENOUGH = 1 << 30  # bytes written anew in one round


class Dropped(msgspec.Struct, frozen=True):
    """A snapshot that goes, or stays, and why."""

    agent: str
    snapshot: Snapshot
    why: str


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What a round did, or would do. ``bytes``: of packs that were condemned or, in an earlier round, deleted now."""

    dropped: list[Dropped] = []
    kept: list[Dropped] = []
    condemned: int = 0
    reprieved: int = 0
    deleted: int = 0
    repacked: int = 0
    bytes: int = 0
    unknown: int = 0  # objects that look like packs and stand in no catalog: never touched


class Copies(Protocol):
    """What writing packs anew needs of the spool."""

    def put(self, chunks: Sequence[tuple[bytes, bytes | memoryview]]) -> list[Place]: ...

    def sync(self) -> list[Pack]: ...


class Reading(Protocol):
    """Chunks out of packs."""

    def stream(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes | memoryview]]: ...


class Pruner:
    """``tiers`` answers an agent's; ``open_pack`` the reader of a stored pack; ``flush`` brings the spool to the blob
    store."""

    def __init__(
        self,
        catalog: Catalog,
        objects: Objects,
        spool: Copies,
        chunks: Reading,
        consolidator: Consolidator,
        *,
        tiers: Callable[[str], Sequence[Tier]],
        open_pack: Callable[[str], SealedPack],
        flush: Callable[[], Awaitable[object]],
        clock: Clock,
        node: str,
        grace_ms: int,
        young_ms: int = YOUNG_MS,
    ) -> None:
        self._catalog = catalog
        self._objects = objects
        self._spool = spool
        self._chunks = chunks
        self._consolidator = consolidator
        self._tiers = tiers
        self._open = open_pack
        self._round = asyncio.Lock()
        self._flush = flush
        self._clock = clock
        self._node = node
        self._grace_ms = grace_ms
        self._young_ms = young_ms

    async def prune(self, agent: str | None = None, *, dry_run: bool = False) -> Pruned:
        """One round, after any that goes on. NotFound for an agent without a volume; VolumeDamaged when a pack that
        must be there is not, or the manifest is not sound."""
        async with self._round:
            return await self._prune(agent, dry_run=dry_run)

    async def _prune(self, agent: str | None, *, dry_run: bool) -> Pruned:
        kept, dropped = await self._retention(agent)
        packs = await self._catalog.packs(("stored", "condemned"))
        unknown = await self._compare(packs)
        need = await needed(self._catalog, packs)
        if dropped and not dry_run:
            dropped = await self._drop(dropped)
            need = await needed(self._catalog, packs)
        done = Pruned(kept=kept, dropped=dropped, unknown=unknown)
        done = await self._second_phase(packs, need, done, dry_run=dry_run)
        return await self._first_phase(packs, need, done, dry_run=dry_run)

    # --- snapshots ---------------------------------------------------------------------------------------------

    async def _retention(self, agent: str | None) -> tuple[list[Dropped], list[Dropped]]:
        volumes = [each for each in await self._catalog.volumes() if agent in (None, each.name)]
        if agent is not None and not volumes:
            raise NotFound(f"{agent} has no volume", fix="relit volume ls")
        kept: list[Dropped] = []
        dropped: list[Dropped] = []
        for volume in volumes:
            some = await self._catalog.snapshots(volume.id, limit=_ALL)
            stays = keep(
                [Dated(each.number, each.at_ms, each.pinned, each.tags) for each in some],
                self._tiers(volume.name),
                self._clock.now_ms(),
            )
            kept += [Dropped(volume.name, each, stays[each.number]) for each in some if each.number in stays]
            gone = [each for each in some if each.number not in stays]
            dropped += [Dropped(volume.name, each, "no tier keeps it") for each in gone]
        return kept, dropped

    async def _drop(self, dropped: Sequence[Dropped]) -> list[Dropped]:
        """Answers those that went: one that was named or pinned meanwhile stays."""
        numbers: dict[str, list[int]] = {}
        for each in dropped:
            numbers.setdefault(each.snapshot.volume, []).append(each.snapshot.number)
        gone: set[tuple[str, int]] = set()
        for volume, some in numbers.items():
            gone |= {(volume, number) for number in await self._catalog.drop_snapshots(volume, some)}
            point("volumes.prune.dropped")
        return [each for each in dropped if (each.snapshot.volume, each.snapshot.number) in gone]

    # --- packs -------------------------------------------------------------------------------------------------

    async def _compare(self, packs: Sequence[Pack]) -> int:
        """See that every stored pack is there, as long as it should be. Answers how many objects nobody knows."""
        sizes = {key_of(pack.id): pack.size for pack in packs if pack.state == "stored"}
        known = {key_of(pack.id) for pack in await self._catalog.packs()}
        unknown = 0
        async for found in self._objects.list("packs/"):
            expected = sizes.pop(found.key, None)
            unknown += found.key not in known
            if expected is not None and expected != found.size:
                raise _missing(found.key, f"it has {found.size} bytes instead of {expected}")
        if sizes:
            raise _missing(next(iter(sizes)), "it is not in the list")
        return unknown

    async def _second_phase(
        self, packs: Sequence[Pack], need: dict[str, Need], done: Pruned, *, dry_run: bool
    ) -> Pruned:
        due = [pack for pack in packs if pack.state == "condemned" and pack.node == self._node and self._over(pack)]
        back = [pack.id for pack in due if need[pack.id].ids]
        gone = [pack for pack in due if not need[pack.id].ids]
        if not dry_run:
            if back:
                await self._catalog.reprieve(back)
            for pack in gone:
                await self._objects.delete(key_of(pack.id))
                point("volumes.prune.deleted")
                await self._catalog.bury(pack.id)
                point("volumes.prune.buried")
        return msgspec.structs.replace(done, reprieved=len(back), deleted=len(gone), bytes=total(gone))

    def _over(self, pack: Pack) -> bool:
        return pack.condemned_at_ms is not None and self._clock.now_ms() - pack.condemned_at_ms >= self._grace_ms

    async def _first_phase(
        self, packs: Sequence[Pack], need: dict[str, Need], done: Pruned, *, dry_run: bool
    ) -> Pruned:
        now, manifests = self._clock.now_ms(), Manifests(self._catalog, lambda pack: self._open(pack).index())
        own = [pack for pack in packs if pack.node == self._node]
        young = {"now_ms": now, "young_ms": self._young_ms}
        found = [*dead(own, need, **young), *sparse(own, need, **young)]
        going = without_records(found, need, await manifests.needed(found))
        thin = _bounded([pack for pack in going if need[pack.id].ids], need)
        going = [pack for pack in going if pack in thin or not need[pack.id].ids]
        if going and not dry_run and not await self._written_anew(thin, going, need, manifests):
            return done  # what replaces them is not in the blob store yet: the next round goes on
        if going and not dry_run:
            await self._catalog.condemn([pack.id for pack in going], self._clock.now_ms())
            point("volumes.prune.condemned")
        return msgspec.structs.replace(done, condemned=len(going), repacked=len(thin), bytes=done.bytes + total(going))

    async def _written_anew(
        self, thin: Sequence[Pack], going: Sequence[Pack], need: dict[str, Need], manifests: Manifests
    ) -> bool:
        """Write what must outlive the packs that go; whether all of it is in the blob store."""
        written = await self._copy(sorted({id for pack in thin for id in need[pack.id].ids}))
        point("volumes.prune.copied")
        await self._flush()
        written |= await self._consolidate(await manifests.broken_without(going))
        point("volumes.prune.consolidated")
        if not written:
            return True
        await self._flush()
        point("volumes.prune.flushed")
        states = {pack.id: pack.state for pack in await self._catalog.packs()}
        return all(states.get(pack) == "stored" for pack in written)

    async def _copy(self, ids: Sequence[bytes]) -> set[str]:
        """Further copies of these chunks. Answers the packs that they went to."""
        into: set[str] = set()
        for at in range(0, len(ids), _COPIED):
            chunks = [each async for each in self._chunks.stream(ids[at : at + _COPIED])]
            places = self._spool.put(chunks)
            packs = self._spool.sync()
            point("volumes.prune.written")
            await self._catalog.load_chunks([(id, place) for (id, _), place in zip(chunks, places, strict=True)], packs)
            into |= {place.pack for place in places}
        return into

    async def _consolidate(self, volumes: Sequence[Volume]) -> set[str]:
        """Write the manifests of these volumes anew. VolumeDamaged: one is not what packs tell, which must not go."""
        audit = Audit(self._catalog, self._open)
        for volume in volumes:
            damage, _ = await audit.check(volume)
            if damage:
                raise VolumeDamaged(
                    f"nothing was condemned: the manifest of {volume.name} is damaged",
                    why=f"{damage[0].what}, {', '.join(map(shown, damage[0].paths[:5]))}",
                    fix=damage[0].fix,
                )
        return {pack for volume in volumes for pack in await self._consolidator.write(volume)}


def _bounded(packs: Sequence[Pack], need: dict[str, Need]) -> list[Pack]:
    """As many as one round may write anew, the emptiest first."""
    chosen, size = [], 0
    for pack in sorted(packs, key=lambda pack: need[pack.id].bytes / max(1, pack.size)):
        size += need[pack.id].bytes
        if size > _ENOUGH:
            break
        chosen.append(pack)
    return chosen


def _missing(key: str, why: str) -> VolumeDamaged:
    return VolumeDamaged(
        f"nothing was pruned: {key} is not as it should be",
        why=why,
        fix="relit volume verify tells what it takes with it; put it back from a copy of the blob store",
    )
