"""The volumes of this machine: one process keeps them; a command does it itself when none runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from relit.api.timeline import JournalTimeline
from relit.api.volumes_local import Facts, LocalVolumes
from relit.app import parts as chosen
from relit.app.alone import alone
from relit.app.folder import run_dir
from relit.app.homes import Mounts, make_mount
from relit.app.unlock import Unlocked, adopt, unlock
from relit.errors import Conflict
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.ids import new_id
from relit.lib.service import OnFailure
from relit.settings import Settings
from relit.store.base import Store
from relit.store.generation import OwnObjects
from relit.store.objects import Objects, open_objects
from relit.volumes.base import Watcher
from relit.volumes.helper import Helper
from relit.volumes.keys import ids_of
from relit.volumes.parts import Parts as HomeParts
from relit.volumes.reader import Chunks
from relit.volumes.restore import Restorer
from relit.volumes.retention import YOUNG_MS
from relit.volumes.service import Homes
from relit.volumes.spool import LIMIT, Spool
from relit.volumes.syncing import hand_over, settle
from relit.volumes.upload import Uploader
from relit.volumes.watch.opening import open_watcher

if TYPE_CHECKING:
    from relit.app.care import Care
    from relit.volumes.keys import Keys

log = logging.getLogger("relit.volumes")
NODE = "local"
_WAIT_S = 30.0  # for another process that has the volumes


class Tuning(msgspec.Struct, frozen=True):
    """What no setting says. ``later``: the clock that pruning goes by; ``options``: of the blob store's client;
    ``sync``: waits until the disk has a home that was laid, or lets somebody else wait."""

    pack_bytes: int = LIMIT
    young_ms: int = YOUNG_MS
    later: Clock = SYSTEM_CLOCK
    options: Mapping[str, str] = {}
    sync: Callable[[str], None] = settle


def make_care(kept: Kept, settings: Settings, store: Store, keys: Keys | None, fail: OnFailure) -> Care:
    """Imported when it is needed: a command that takes a snapshot would wait for it."""
    from relit.app.care import Care

    return Care(kept, settings, store, keys, fail)


class Kept:
    """Everything that keeps volumes, put together. ``settle`` first, ``close`` last."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        objects: Objects,
        unlocked: Unlocked,
        watcher: Watcher,
        fail: OnFailure,
        tuning: Tuning = Tuning(),  # noqa: B008 - a frozen value
    ) -> None:
        clock = SYSTEM_CLOCK
        self.tuning = tuning
        self.node = NODE
        keys = unlocked.keys
        self.catalog = chosen.catalog(store)
        self.objects = objects
        self.spool = Spool(settings.data / "spool" / "packs", keys, node=NODE, clock=clock, limit=tuning.pack_bytes)
        id_of = ids_of(keys)
        self.chunks = Chunks(self.catalog, self.spool, objects, keys, id_of)
        self.uploader = Uploader(
            self.catalog, self.spool, objects, NODE, clock, settings.volumes.interval_ms / 1000, on_failure=fail
        )
        self.homes = Homes(
            Mounts(settings),
            lambda agent: make_mount(settings, agent),
            HomeParts(
                catalog=self.catalog,
                spool=self.spool,
                restorer=lambda work: Restorer(self.chunks, work, clock=clock, helper=lambda root: Helper(root, keys)),
                watcher=watcher,
                id_of=id_of,
                clock=clock,
                new_id=new_id,
                report=store.record,
                waiting=self.spool.waiting,
                most_waiting=settings.volumes.spool_bytes,
                sync=tuning.sync,
                node=NODE,
            ),
            fail,
        )
        self._caring: Callable[[], Care] = lambda: make_care(self, settings, store, keys, fail)
        self.local = LocalVolumes(
            self.homes,
            self.catalog,
            self.chunks,
            self.uploader,
            lambda: self.care,
            JournalTimeline(store),
            Facts(store=objects.url, encrypted=keys is not None, key=unlocked.key),
            clock,
        )

    @cached_property
    def care(self) -> Care:
        """Made when it is needed."""
        return self._caring()

    async def settle(self) -> None:
        """Bring to an end what an earlier process could not."""
        packs = await self.catalog.packs(node=NODE)
        committed = {each.id for each in await self.catalog.unstored(NODE)}
        for trouble in await asyncio.to_thread(self.spool.recover, packs, committed):
            log.error("%s", trouble)
        await self.homes.recover()

    async def close(self) -> None:
        """Seal what was written, and let go."""
        await self.homes.stop()
        await self.uploader.stop()
        sealed = await asyncio.to_thread(self.spool.seal)
        if sealed:
            await self.catalog.put_packs(sealed)
        self.spool.close()


@asynccontextmanager
async def kept(
    settings: Settings,
    store: Store,
    watcher: Watcher,
    fail: OnFailure,
    tuning: Tuning = Tuning(),  # noqa: B008 - a frozen value
    *,
    adopting: bool = False,
) -> AsyncIterator[Kept]:
    """The volumes, while nobody else has them. ``adopting``: a store without any takes those of the blob store."""
    async with _only(run_dir(settings)):
        objects, catalog = open_objects(settings.volume_store, tuning.options), chosen.catalog(store)
        if adopting:
            await adopt(settings, objects, catalog)
        store_id = await catalog.identity()
        unlocked = await unlock(settings, objects, store_id)
        own = OwnObjects(objects, store_id, await catalog.generation())
        await own.start()
        made = Kept(settings, store, own, unlocked, watcher, fail, tuning)
        try:
            await made.settle()
            yield made
        finally:
            await made.close()


def _only(place: Path) -> AbstractAsyncContextManager[None]:
    """The lock of this data folder's volumes. Conflict after a while."""
    taken = Conflict(
        f"another process has the volumes of {place.parent}",
        why="a relit that runs there, or a long command",
        fix="relit ps shows it; then again",
    )
    return alone(place / "volumes.lock", _WAIT_S, taken)


def _raise(error: BaseException) -> None:
    raise error


@asynccontextmanager
async def open_local(settings: Settings, *, adopting: bool = False) -> AsyncIterator[LocalVolumes]:
    """The volumes in this process, for one command; what it wrote is in the blob store afterwards if that answers.
    What it laid down is brought to the disk by a process that goes on after it. ``adopting``: as ``kept`` has it."""
    watcher, tuning = open_watcher("sweep"), Tuning(sync=hand_over)
    async with (
        chosen.store(settings) as store,
        kept(settings, store, watcher, _raise, tuning, adopting=adopting) as made,
    ):
        yield made.local
        await made.homes.laid()
        if await made.catalog.undescribed(NODE):
            await made.care.caretaker.describe()
        await made.uploader.flush()
