"""Volumes put together in a folder: a store, a spool, a blob store, homes; what tests do with them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from relit.errors import VolumeError
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.ids import new_id
from relit.manifest import Entry, Snapshot, Volume
from relit.store.objects import FolderObjects
from relit.store.sql.sqlite import databases
from relit.store.sql.sqlite.store import SqliteStore
from relit.volumes.base import Catalog, Objects, Watcher
from relit.volumes.consolidate import Consolidator
from relit.volumes.findings import Findings
from relit.volumes.keys import Keys, ids_of
from relit.volumes.laying import Hand
from relit.volumes.limits import Limits
from relit.volumes.mount import Mount
from relit.volumes.packindex import SealedPack
from relit.volumes.parts import Parts
from relit.volumes.prune import Pruner
from relit.volumes.reader import Chunks
from relit.volumes.rebuild import Rebuilder, Rebuilt
from relit.volumes.restore import Restorer
from relit.volumes.retention import Tier, parse_keep
from relit.volumes.service import Homes
from relit.volumes.spool import LIMIT, Spool
from relit.volumes.syncing import settle
from relit.volumes.upload import Uploader, key_of
from relit.volumes.verify import Verifier
from relit.volumes.watch.opening import Kind, OpenWatcher, open_watcher

KEYS = Keys(bytes(range(32)))
AGENT = "ada"
HOUR, DAY = 3_600_000, 86_400_000


class MovedClock:
    """The machine's clocks, moved forward."""

    def __init__(self) -> None:
        self.offset = 0

    def now_ms(self) -> int:
        return SYSTEM_CLOCK.now_ms() + self.offset

    def boot_ms(self) -> int:
        return SYSTEM_CLOCK.boot_ms() + self.offset

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic() + self.offset / 1000


class Still:
    """An agent that does nothing by itself. ``meanwhile`` is done as soon as it stands still, ``held`` tells why."""

    def __init__(self) -> None:
        self.running = False
        self.whole = True
        self.held: list[str] = []
        self.freezes = 0
        self.frozen = False
        self.before: Callable[[], object] = lambda: None

    async def freeze(self) -> bool:
        self.before()
        self.freezes += 1
        self.frozen = self.running
        return self.running

    def pids(self) -> None:
        return None

    async def thaw(self) -> bool:
        self.frozen = False
        return self.whole

    async def hold(self, reason: str) -> None:
        self.held.append(reason)

    async def release(self) -> None:
        self.held.clear()


def opened_watcher(kind: Kind) -> OpenWatcher:
    """Of that kind; without the right to it the test is skipped, except in CI."""
    try:
        return open_watcher(kind)
    except VolumeError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


class Kit:
    """One node's volumes below ``base``. Made anew on the same folder it is the node after a restart.

    ``clock`` is that of homes and store; ``later`` that of pruning, so that time passes for it alone.
    """

    def __init__(
        self,
        base: Path,
        *,
        watch: Kind = "sweep",
        watcher: Watcher | None = None,
        objects: Objects | None = None,
        keys: Keys | None = KEYS,
        node: str = "local",
        keep: str = "1h all",
        patterns: Sequence[str] = (),
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        limit: int = LIMIT,
        database: str = "relit.db",
        grace_ms: int = HOUR,
        young_ms: int = 0,
        databases: Callable[[Path], Awaitable[tuple[int, list[tuple[bytes, str]]]]] = databases.check,
        sync: Callable[[str], None] = settle,
        helper: Callable[[Path], Hand] | None = None,
    ) -> None:
        self.base, self.keys, self.node = base, keys, node
        self.clock, self.later = MovedClock(), MovedClock()
        self.still = Still()
        self.helper = helper
        self.patterns, self.limits, self.declared = tuple(patterns), limits, False
        self.tiers: Sequence[Tier] = parse_keep(keep)
        self.store = SqliteStore(base / database, clock=self.clock)
        self.objects = objects or FolderObjects(base / "blobs")
        self.spool = Spool(base / f"spool-{node}", keys, node=node, clock=self.clock, limit=limit)
        self.watcher = watcher or opened_watcher(watch)
        self._grace_ms, self._young_ms, self._databases, self._sync = grace_ms, young_ms, databases, sync

    async def start(self) -> None:
        """As a node's process does."""
        await self.store.start()
        self.catalog = self.store.catalog
        self.chunks = Chunks(self.catalog, self.spool, self.objects, self.keys, ids_of(self.keys))
        self.uploader = Uploader(self.catalog, self.spool, self.objects, self.node, self.clock, chance=Random(1))
        self.homes = Homes(
            self.mounts,
            self.mount,
            Parts(
                catalog=self.catalog,
                spool=self.spool,
                restorer=lambda work: Restorer(self.chunks, work, clock=self.clock, helper=self.helper),
                watcher=self.watcher,
                id_of=ids_of(self.keys),
                clock=self.clock,
                new_id=new_id,
                report=self.store.record,
                sync=self._sync,
                node=self.node,
            ),
        )
        self.care()
        await self.settle()

    def care(self) -> None:
        """Retention, checks and the way back, made anew."""
        self.consolidator = Consolidator(self.catalog, self.spool)
        self.findings = Findings(self.base / "checks.json")
        self.pruner = self.made_pruner(self.catalog)
        self.verifier = Verifier(
            self.catalog,
            self.objects,
            self.keys,
            open_pack=self.open_pack,
            lay=self.homes.lay_at,
            databases=self._databases,
            report=self.store.record,
            findings=self.findings,
            work=self.base / "verify",
            chance=Random(1),
        )
        self.rebuilder = Rebuilder(
            self.catalog,
            self.objects,
            self.open_pack,
            self.node,
            at_rest=self.homes.at_rest,
            flush=self.uploader.flush,
        )

    def made_pruner(self, catalog: Catalog) -> Pruner:
        """One that sees the manifest through ``catalog``."""
        return Pruner(
            catalog,
            self.objects,
            self.spool,
            self.chunks,
            self.consolidator,
            tiers=lambda agent: self.tiers,
            open_pack=self.open_pack,
            flush=self.uploader.flush,
            clock=self.later,
            node=self.node,
            grace_ms=self._grace_ms,
            young_ms=self._young_ms,
        )

    async def settle(self) -> None:
        """What a start brings to an end."""
        packs = await self.catalog.packs(node=self.node)
        committed = {each.id for each in await self.catalog.unstored(self.node)}
        assert self.spool.recover(packs, committed) == []
        await self.homes.recover()

    async def stop(self, *, seal: bool = True) -> None:
        """Without ``seal``: open packs stay as a crash leaves them."""
        await self.homes.stop()
        await self.uploader.stop()
        if seal and (sealed := self.spool.seal()):
            await self.catalog.put_packs(sealed)
        self.spool.close()
        await self.store.stop()

    # --- one agent -----------------------------------------------------------------------------------------------

    def home(self, agent: str = AGENT) -> Path:
        """Where an agent's files are."""
        return self.base / "agents" / agent / "home"

    def mounts(self) -> dict[str, Mount]:
        """That of the agent in the settings, and every other home that there is."""
        found = {
            path.parent.name for kind in ("home", ".home.due") for path in (self.base / "agents").glob(f"*/{kind}")
        }
        return {agent: self.mount(agent) for agent in sorted(found | {AGENT})}

    def mount(self, agent: str) -> Mount:
        """One home; it is looked at when it is asked for."""
        return Mount(
            agent=agent,
            home=self.home(agent),
            work=self.base / "agents" / agent / "work",
            freezer=self.still,
            holder=self.still,
            patterns=self.patterns,
            limits=self.limits,
            declared=self.declared,
        )

    async def take(self, agent: str = AGENT, *, always: bool = False) -> Snapshot:
        """The snapshot of the home as it is."""
        return (await self.homes.snapshot(agent, "request", always=always))[0]

    async def volume(self, agent: str = AGENT) -> Volume:
        """Its volume."""
        return await self.catalog.volume(agent)

    async def tree(self, number: int, agent: str = AGENT) -> dict[bytes, Entry]:
        """What a snapshot holds."""
        return {each.path: each for each in await self.catalog.tree((await self.volume(agent)).id, number)}

    async def numbers(self, agent: str = AGENT) -> list[int]:
        """Of all snapshots, oldest first."""
        return sorted(each.number for each in await self.catalog.snapshots((await self.volume(agent)).id))

    async def lay(self, number: int, target: Path, agent: str = AGENT) -> Path:
        """A snapshot's files in a new folder."""
        await self.homes.lay_at(await self.volume(agent), number, target)
        return target

    # --- packs ---------------------------------------------------------------------------------------------------

    def open_pack(self, pack: str) -> SealedPack:
        """A stored pack, read without the catalog."""
        return SealedPack(pack, self.objects, self.keys)

    def pack_files(self) -> list[Path]:
        """Stored packs as files (of a blob store in a folder)."""
        return sorted(path for path in (self.base / "blobs" / "packs").rglob("*") if path.is_file())

    def pack_file(self, pack: str) -> Path:
        """One of them."""
        return self.base / "blobs" / key_of(pack)

    async def rebuilt(self, base: Path) -> tuple[Kit, Rebuilt]:
        """Another store with another folder, made from this one's packs alone."""
        other = Kit(base, objects=self.objects, keys=self.keys)
        await other.start()
        return other, await other.rebuilder.rebuild()


@asynccontextmanager
async def running(kit: Kit) -> AsyncIterator[Kit]:
    """Started inside the block."""
    await kit.start()
    try:
        yield kit
    finally:
        await kit.stop()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress; another ``seed``, other bytes."""
    return Random(seed).randbytes(size)
