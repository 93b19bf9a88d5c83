"""A lost server brought back on an empty machine: journal, volumes and homes, out of the blob store alone."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import msgspec

from relit.app import parts as chosen
from relit.app.folder import prepare
from relit.app.instances import home_of, homes_of
from relit.app.shipping import BLOBS, FILE, STORE
from relit.app.unlock import unlock, use
from relit.app.volumes import NODE, kept
from relit.errors import ConfigError, Conflict, NotFound, RelitError
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.crashpoints import point
from relit.manifest import Snapshot
from relit.settings import Settings
from relit.store.claim import read_claim
from relit.store.generation import begin
from relit.store.objects import Objects, open_objects
from relit.store.sql.sqlite.store import SqliteStore
from relit.volumes.base import Catalog
from relit.volumes.beneath import Beneath
from relit.volumes.disk import sync_folder
from relit.volumes.due import Due, holds_something, note, to_be_laid
from relit.volumes.keys import Keys, ids_of
from relit.volumes.packindex import SealedPack
from relit.volumes.reader import Chunks
from relit.volumes.rebuild import Rebuilder
from relit.volumes.restore import Restorer
from relit.volumes.spool import Spool
from relit.volumes.watch.opening import open_watcher

POINTS: tuple[str, ...] = ("volumes.recover.drawn", "volumes.recover.noted", "volumes.recover.installed")


class Recovered(msgspec.Struct, kw_only=True):
    """What came back. ``store_at``: the moment of the store's copy (ms); ``runs``: unfinished then, their later
    effects are in doubt; ``homes``: agent → number of the snapshot that its home is of."""

    store_at: int | None = None
    runs: int = 0
    volumes: int = 0
    snapshots: int = 0
    homes: dict[str, int] = {}
    blobs: bool = False
    problems: list[str] = []


class _Drawn:
    """What was read from the blob store into a folder of its own."""

    def __init__(self, settings: Settings, objects: Objects, draft: Path, generation: int) -> None:
        self.settings = settings
        self.objects = objects
        self.draft = draft
        self.generation = generation
        self.done = Recovered()


async def recover(settings: Settings, keys: Keys | None = None) -> Recovered:
    """Fill an empty data folder. ``keys``: to be used and kept there, if they open the packs. Raises Conflict when a
    store is there, NotFound when the prefix holds nothing of relit, WrongKey. Run again, after an error or a kill at
    any moment, it goes on: the store counts when all of it is there, and by then every home that is to be laid is
    noted."""
    database = chosen.database(settings)
    if not isinstance(database, Path):
        raise ConfigError(
            "there is nothing to recover: the store is on PostgreSQL",
            why="only relit's own SQLite store is kept in the blob store",
            fix="restore PostgreSQL from its backup; relit volume rebuild for what its backup lacks",
        )
    if not database.exists():
        await _bring_back(settings, database, keys)
    elif not _marker(settings).exists():
        raise Conflict(
            f"{database} is there",
            why="a store that exists is not replaced",
            fix=f"--data with an empty folder; or relit down, mv {database}* to another place, then again",
        )
    done = msgspec.json.decode(_marker(settings).read_bytes(), type=Recovered)
    await asyncio.to_thread(shutil.rmtree, _draft(settings), ignore_errors=True)
    await _lay_homes(settings, done)
    await asyncio.to_thread(_marker(settings).unlink)
    return done


async def _bring_back(settings: Settings, database: Path, keys: Keys | None) -> None:
    objects = open_objects(settings.volume_store)
    claim = await read_claim(objects)
    if claim is None:
        raise NotFound(f"there is no relit store at {objects.url}", fix="look at volumes.store in relit.toml")
    prepare(settings.data)
    if keys is not None:
        await asyncio.to_thread(use, settings, keys, claim["extra"])
    await unlock(settings, objects, claim["store"])  # the right key, before anything is read
    generation = await begin(objects, claim["store"])  # from now on the lost machine deletes nothing, if it lives
    drawn = _Drawn(settings, objects, _draft(settings), generation)
    await asyncio.to_thread(shutil.rmtree, drawn.draft, ignore_errors=True)
    await asyncio.to_thread(drawn.draft.mkdir, mode=0o700)
    await _draw(drawn, claim["store"])
    point("volumes.recover.noted")
    await asyncio.to_thread(_install, drawn, database)
    point("volumes.recover.installed")


def _draft(settings: Settings) -> Path:
    return settings.data / "recovering"


def _marker(settings: Settings) -> Path:
    """There while homes of a store that is there already may be missing. It says what came back."""
    return settings.data / "recovering.json"


def _install(drawn: _Drawn, database: Path) -> None:
    """From now on the store counts. The disk has everything before that."""
    data = drawn.settings.data
    if drawn.done.blobs:
        _join(drawn.draft / "blobs", data / "blobs")
    _marker(drawn.settings).write_bytes(msgspec.json.encode(drawn.done))
    with Beneath(data) as root:
        root.sync_all()
    os.replace(drawn.draft / "relit.db", database)
    sync_folder(database.parent)


def _join(found: Path, blobs: Path) -> None:
    """Payloads are named by their content: those that are there already are the same."""
    for where, _, files in os.walk(found):
        target = blobs / os.path.relpath(where, found)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in files:
            os.replace(os.path.join(where, name), target / name)


async def _draw(drawn: _Drawn, store_id: str) -> None:
    """The store's newest copy, with the manifest as the packs have it now."""
    packs_only = SqliteStore(drawn.draft / "packs.db")
    await packs_only.start()
    try:
        catalog: Catalog = packs_only.catalog
        await _rebuild(drawn, catalog, store_id)
        copied = await _lay(drawn, catalog, store_id, STORE, drawn.draft / "store")
        if copied is None:
            drawn.done.problems.append("no copy of the store was found: agents' journals and messages are lost")
        blobs = await _lay(drawn, catalog, store_id, BLOBS, drawn.draft / "blobs")
        drawn.done.blobs = blobs is not None
    finally:
        await packs_only.stop()
    if copied is not None:
        drawn.done.store_at = copied.at_ms
        await asyncio.to_thread(os.replace, drawn.draft / "store" / FILE, drawn.draft / "relit.db")
    point("volumes.recover.drawn")
    await _merge(drawn, store_id)


async def _rebuild(drawn: _Drawn, catalog: Catalog, store_id: str) -> None:
    unlocked = await unlock(drawn.settings, drawn.objects, store_id)
    rebuilder = Rebuilder(catalog, drawn.objects, lambda pack: SealedPack(pack, drawn.objects, unlocked.keys), NODE)
    found = await rebuilder.rebuild()
    drawn.done.volumes, drawn.done.snapshots = found.volumes, found.snapshots
    drawn.done.problems = list(found.problems)


async def _lay(drawn: _Drawn, catalog: Catalog, store_id: str, name: str, target: Path) -> Snapshot | None:
    """One of relit's own volumes, as of its newest snapshot."""
    try:
        volume = await catalog.volume(name)
    except NotFound:
        return None
    unlocked = await unlock(drawn.settings, drawn.objects, store_id)
    spool = Spool(drawn.draft / "spool", unlocked.keys, node=NODE, clock=SYSTEM_CLOCK)
    try:
        chunks = Chunks(catalog, spool, drawn.objects, unlocked.keys, ids_of(unlocked.keys))
        tree = await catalog.tree(volume.id, volume.newest)
        segments = await catalog.all_segments(volume.id, volume.newest)
        await Restorer(chunks, drawn.draft).fresh(target, tree, segments=segments)
    finally:
        spool.close()
    return await catalog.snapshot(volume.id, volume.newest)


async def _merge(drawn: _Drawn, store_id: str) -> None:
    """The journal is the copy's; the manifest is the packs', which know of later snapshots than the copy."""
    store = SqliteStore(drawn.draft / "relit.db")
    await store.start()
    try:
        catalog = store.catalog
        marks = await _marks(catalog)
        await catalog.clear(store_id, drawn.generation)
        await _rebuild(drawn, catalog, store_id)
        await _mark(catalog, marks)
        drawn.done.runs = await store.recovered()
        await _note_homes(drawn.settings, catalog)
    finally:
        await store.stop()


async def _marks(catalog: Catalog) -> list[tuple[str, Snapshot]]:
    """Pinned and tagged snapshots that the copy knows: packs do not hold them all."""
    found = []
    for volume in await catalog.volumes():
        some = await catalog.snapshots(volume.id, limit=2**31)
        found += [(volume.id, each) for each in some if each.pinned or each.tags]
    return found


async def _mark(catalog: Catalog, marks: list[tuple[str, Snapshot]]) -> None:
    for volume, snapshot in reversed(marks):
        try:
            for tag in snapshot.tags:
                await catalog.tag(volume, snapshot.number, tag)
            if snapshot.pinned:
                await catalog.pin(volume, snapshot.number, pinned=True)
        except NotFound:
            continue  # it was not in the blob store


async def _note_homes(settings: Settings, catalog: Catalog) -> None:
    """No agent starts before it has its home, as of its newest snapshot. Homes that are there stay."""
    for volume in await catalog.volumes():
        home = home_of(settings, volume.name)
        if not volume.name.startswith(".") and volume.newest and not holds_something(home):
            wanted = Due(volume=volume.id, number=volume.newest, newest=volume.newest)
            await asyncio.to_thread(note, home, wanted)


async def _lay_homes(settings: Settings, done: Recovered) -> None:
    """What was noted is laid down by a start, as any other."""
    awaited = [agent for agent in homes_of(settings) if to_be_laid(home_of(settings, agent))]
    async with (
        chosen.engine(settings) as engine,
        kept(settings, engine.store, open_watcher("sweep"), _raise) as made,
    ):
        for agent in awaited:
            try:
                number = (await made.catalog.volume(agent)).newest
                await made.homes.snapshot(agent, "restore", f"as in {number}", always=True)
                done.homes[agent] = number
            except RelitError as error:
                done.problems.append(f"the home of {agent} was not laid down: {error.what}: {error.why}")
        await made.uploader.flush()


def _raise(error: BaseException) -> None:
    raise error
