"""Chooses implementations: store, blobs, engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relit.app import folder
from relit.app.instances import make_home
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.settings import Settings
from relit.store.base import Store
from relit.store.blobs import BlobStore, ObstoreBlobs
from relit.store.sql.store import SqlStore
from relit.volumes.base import Catalog

if TYPE_CHECKING:
    from relit.durable.engine import Engine
    from relit.durable.payload import Codec


def database(settings: Settings) -> Path | str:
    """Where the rows are: SQLite's file, or PostgreSQL's address."""
    named = settings.server.database
    if named == "sqlite":
        return settings.data / "relit.db"
    if named.startswith("sqlite:"):
        return (settings.folder / Path(named.removeprefix("sqlite:")).expanduser()).absolute()
    return named


def open_store(settings: Settings, clock: Clock = SYSTEM_CLOCK, *, cache_kib: int | None = None) -> Store:
    """The store, not started. ``cache_kib``: of SQLite. Raises ``ConfigError`` where data would not be safe."""
    folder.check_clock(clock)
    folder.prepare(settings.data)
    where = database(settings)
    if isinstance(where, Path):
        from relit.store.sql.sqlite.store import SqliteStore

        folder.prepare(where.parent)
        folder.check_local(where.parent.resolve(), folder.mounts())
        return SqliteStore(where, clock=clock, cache_kib=cache_kib)
    from relit.store.sql.postgres.store import PostgresStore

    return PostgresStore(where)


def catalog(store: Store) -> Catalog:
    """The manifest of volumes that lies in a store."""
    assert isinstance(store, SqlStore)
    return store.catalog


def open_blobs(settings: Settings) -> BlobStore:
    """Where large payloads go."""
    named = settings.server.blobs
    if named.startswith("s3://"):
        return ObstoreBlobs(named)
    where = settings.data / "blobs" if named == "local" else settings.folder / Path(named).expanduser()
    return ObstoreBlobs(folder.prepare(where))


def open_engine(settings: Settings, store: Store) -> Engine:
    """The engine over a store."""
    from relit.durable.engine import Engine  # commands that only need the store need not wait for it
    from relit.durable.payload import Payloads

    return Engine(store, Payloads(open_blobs(settings), _codec(settings)), home=partial(make_home, settings))


def _codec(settings: Settings) -> Codec | None:
    if settings.server.codec is None:
        return None
    from relit.app import modules  # commands that run no code of the user's need not wait for it

    return modules.codec(settings)


@asynccontextmanager
async def store(settings: Settings, *, cache_kib: int | None = None) -> AsyncIterator[Store]:
    """A store that is open inside the block."""
    opened = open_store(settings, cache_kib=cache_kib)
    await opened.start()
    try:
        yield opened
    finally:
        await opened.stop()


@asynccontextmanager
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    """An engine on a store that is open inside the block."""
    async with store(settings) as opened:
        yield open_engine(settings, opened)
