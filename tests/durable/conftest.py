"""The fixture ``house``: on SQLite, and on PostgreSQL for the modules that ask for ``dialect``."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from durable_house import House

from relit.store.base import Store
from relit.store.blobs import ObstoreBlobs
from relit.store.sql.postgres.store import PostgresStore
from relit.store.sql.sqlite.store import SqliteStore

_schemas = itertools.count()
BOTH = (
    "test_workflows",
    "test_steps_in_runs",
    "test_run_ends",
    "test_effect_runs",
    "test_recorder",
    "test_rewound_runs",
    "test_rewound_surroundings",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "house" in metafunc.fixturenames:
        both = metafunc.module.__name__ in BOTH
        postgres = [pytest.param("postgres", marks=pytest.mark.postgres)] if both else []
        metafunc.parametrize("dialect", ["sqlite", *postgres], indirect=True)


@pytest.fixture
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def house(tmp_path: Path, dialect: str, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """Everything that a run needs. Afterwards relit's own invariants must hold, whatever the test did."""
    store: Store = SqliteStore(tmp_path / "relit.db")
    if dialect == "postgres":
        store = PostgresStore(
            request.getfixturevalue("postgres_url"), schema=f"relit_durable_{os.getpid()}_{next(_schemas)}"
        )
    await store.start()
    house = House(store, ObstoreBlobs(str(tmp_path / "blobs")))
    await house.ticker.start()
    yield house
    for worker in house.workers:
        await worker.stop()
    await house.ticker.stop()
    assert await store.check() == []
    await store.stop()
