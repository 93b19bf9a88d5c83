"""The fixture ``house``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from durable_house import House

from relit.store.blobs import ObstoreBlobs
from relit.store.sql.sqlite.store import SqliteStore


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = SqliteStore(tmp_path / "relit.db")
    await store.start()
    house = House(store, ObstoreBlobs(str(tmp_path / "blobs")))
    await house.ticker.start()
    yield house
    for worker in house.workers:
        await worker.stop()
    await house.ticker.stop()
    await store.stop()
