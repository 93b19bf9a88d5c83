"""Brings sealed packs from the spool to the blob store: one request per node and interval, however many agents.

A pack leaves the spool in this order: it is in the blob store → the catalog says so → its file is removed. Whatever
comes between, the next round finds it: a file whose pack is stored is only removed, a file whose upload was cut off
is looked for by name and size before it is sent again. Packs go in the order they were made, since a snapshot is
stored when all packs up to its own are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Protocol

import msgspec

from relit.errors import RelitError
from relit.lib import backoff
from relit.lib.clock import Clock
from relit.lib.crashpoints import point
from relit.lib.ids import system_random
from relit.lib.service import OnFailure, Tasks, reporting
from relit.manifest import Pack, Snapshot
from relit.volumes.base import Catalog, Objects

log = logging.getLogger("relit.volumes")

POINTS: tuple[str, ...] = (
    "volumes.upload.seal.before",
    "volumes.upload.seal.after",
    "volumes.upload.put.before",
    "volumes.upload.put.after",
    "volumes.upload.stored.after",
    "volumes.upload.release.after",
)


def key_of(pack: str) -> str:
    """Where a pack lies in the blob store."""
    return f"packs/{pack[:2]}/{pack}"


class Sealing(Protocol):
    """What an uploader needs of the spool."""

    def seal(self, force: bool = True) -> list[Pack]: ...

    def sealed(self) -> list[tuple[Pack, Path]]: ...

    def release(self, pack: Pack) -> None: ...


class Uploads(msgspec.Struct):
    """What was done since the start."""

    packs: int = 0
    bytes: int = 0
    snapshots: int = 0
    requests: int = 0  # to the blob store, failed ones too
    failures: int = 0

    @property
    def per_snapshot(self) -> float:
        """Requests for each snapshot that became stored."""
        return self.requests / self.snapshots if self.snapshots else 0.0


class Uploader:
    """``on_failure`` is told of an unforeseen error that ended the loop. ``trouble`` is the last round's error."""

    def __init__(
        self,
        catalog: Catalog,
        spool: Sealing,
        objects: Objects,
        node: str,
        clock: Clock,
        interval_s: float = 10,
        *,
        chance: Random | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        self.trouble: RelitError | None = None
        self.done = Uploads()
        self._catalog = catalog
        self._spool = spool
        self._objects = objects
        self._node = node
        self._clock = clock
        self._interval_s = interval_s
        self._chance = chance or system_random()
        self._round = asyncio.Lock()
        self._recorded: set[str] = set()  # sealed packs whose row says so
        self._unsure: set[str] = set()  # packs that may be in the blob store already
        self._looked_back = False
        self._waiting_since_ms: int | None = None
        self._tasks = Tasks(reporting(log, "the uploader", on_failure))

    @property
    def behind_ms(self) -> int:
        """Age of the oldest sealed pack that is not in the blob store; 0: none waits."""
        since = self._waiting_since_ms
        return 0 if since is None else max(0, self._clock.now_ms() - since)

    async def start(self) -> None:
        """Begin."""
        self._tasks.spawn(self._loop(), "relit-upload")

    async def stop(self) -> None:
        """End; safe twice. What is not uploaded stays in the spool."""
        await self._tasks.stop()

    async def flush(self) -> list[Snapshot]:
        """Seal and upload now; answers the snapshots that became stored. Raises what went wrong (the loop goes on
        trying). A pack with a delta that is neither committed nor dropped stays open: ask again after its commit."""
        async with self._round:
            try:
                stored = await self._upload_all()
            except RelitError as error:
                self._failed(error)
                raise
            self.trouble = None
            return stored

    async def _loop(self) -> None:
        attempt = 0
        while True:
            try:
                await self.flush()
                attempt = 0
            except RelitError:  # kept in ``trouble``: without an end, since only here is the pack
                attempt += 1
            await asyncio.sleep(self._pause(attempt))

    def _pause(self, attempt: int) -> float:
        if attempt == 0:
            return self._interval_s
        return backoff.delay(attempt, first=1, factor=2, most=60, jitter=0.5, chance=self._chance)

    def _failed(self, error: RelitError) -> None:
        self.done.failures += 1
        if self.trouble is None:  # once for each trouble, not once for each try
            log.warning("packs are not uploaded: %s", error)
        self.trouble = error

    async def _upload_all(self) -> list[Snapshot]:
        waiting = await self._seal()
        if not self._looked_back and waiting:
            waiting = await self._look_back(waiting)
        self._looked_back = True
        await self._record([pack for pack, _ in waiting])
        stored: list[Snapshot] = []
        for pack, path in waiting:
            self._waiting_since_ms = pack.created_at_ms
            stored += await self._upload(pack, path)
        self._waiting_since_ms = None
        return stored

    async def _seal(self) -> list[tuple[Pack, Path]]:
        point("volumes.upload.seal.before")
        await asyncio.to_thread(self._spool.seal)
        point("volumes.upload.seal.after")
        waiting = sorted(await asyncio.to_thread(self._spool.sealed), key=lambda each: _order(each[0]))
        self._waiting_since_ms = waiting[0][0].created_at_ms if waiting else None
        return waiting

    async def _look_back(self, waiting: Sequence[tuple[Pack, Path]]) -> list[tuple[Pack, Path]]:
        """Once after the start: an earlier process may have ended anywhere between upload and release."""
        there = {pack.id for pack in await self._catalog.packs(("stored", "condemned"), self._node)}
        for pack, _ in waiting:
            if pack.id in there:
                await asyncio.to_thread(self._spool.release, pack)
        left = [each for each in waiting if each[0].id not in there]
        self._unsure.update(pack.id for pack, _ in left)
        return left

    async def _record(self, packs: Sequence[Pack]) -> None:
        fresh = [pack for pack in packs if pack.id not in self._recorded]
        if fresh:
            await self._catalog.put_packs(fresh)
            self._recorded.update(pack.id for pack in fresh)

    async def _upload(self, pack: Pack, path: Path) -> list[Snapshot]:
        if not await self._is_there(pack):
            point("volumes.upload.put.before")
            self._unsure.add(pack.id)  # until an answer says that it is there
            self.done.requests += 1
            await self._objects.put_file(key_of(pack.id), path)
            point("volumes.upload.put.after")
        stored = await self._catalog.stored(pack.id)
        point("volumes.upload.stored.after")
        await asyncio.to_thread(self._spool.release, pack)
        point("volumes.upload.release.after")
        self._count(pack, stored)
        return stored

    async def _is_there(self, pack: Pack) -> bool:
        if pack.id not in self._unsure:
            return False
        self.done.requests += 1
        found = await self._objects.head(key_of(pack.id))
        return found is not None and found.size == pack.size

    def _count(self, pack: Pack, stored: Sequence[Snapshot]) -> None:
        self._unsure.discard(pack.id)
        self._recorded.discard(pack.id)
        self.done.packs += 1
        self.done.bytes += pack.size
        self.done.snapshots += len(stored)


def _order(pack: Pack) -> tuple[int, str]:
    return pack.created_at_ms, pack.id
