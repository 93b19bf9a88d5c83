"""The conformance suite's stores: each test runs on both dialects."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conformance import MovedClock, OpenStore, PostgresTime, SqliteTime, Time

from relit.store.base import Store
from relit.store.sql.postgres.store import PostgresStore
from relit.store.sql.sqlite.store import SqliteStore

_schemas = itertools.count(1)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def dialect(request: pytest.FixtureRequest) -> str:
    """The database below."""
    return str(request.param)


@pytest.fixture
def _place(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[OpenStore, Time]:
    if dialect == "sqlite":
        clock = MovedClock()
        return lambda: SqliteStore(tmp_path / "relit.db", clock=clock), SqliteTime(clock)
    url, schema = request.getfixturevalue("postgres_url"), f"relit_{os.getpid()}_{next(_schemas)}"
    return lambda: PostgresStore(url, schema=schema), PostgresTime(url, schema)


@pytest.fixture
def open_store(_place: tuple[OpenStore, Time]) -> OpenStore:
    """Makes further stores on the same database."""
    return _place[0]


@pytest.fixture
def time(_place: tuple[OpenStore, Time]) -> Time:
    """Moves the store's clock."""
    return _place[1]


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    """A fresh store. Afterwards relit's own invariants must hold, whatever the test did."""
    store = open_store()
    await store.start()
    try:
        yield store
        assert await store.check() == []
    finally:
        await store.stop()
