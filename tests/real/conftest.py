"""Real agents, installed once per machine through the ordinary registries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_house import RealHouse, small_disk
from real_runtimes import installed


@pytest.fixture(scope="session")
def runtimes() -> Path:
    """Both kinds, installed."""
    return installed()


@pytest.fixture
async def house(tmp_path: Path, runtimes: Path, request: pytest.FixtureRequest) -> AsyncIterator[RealHouse]:
    """One agent called ``one`` of the kind that the test is parametrized with, ready."""
    async for made in housed(tmp_path, runtimes, request.param):
        yield made


@pytest.fixture
async def small_house(tmp_path: Path, runtimes: Path, request: pytest.FixtureRequest) -> AsyncIterator[RealHouse]:
    """The same on a disk of its own, which a test can fill."""
    with small_disk(tmp_path / "data"):
        async for made in housed(tmp_path, runtimes, request.param):
            yield made


async def housed(folder: Path, runtimes: Path, kind: str) -> AsyncIterator[RealHouse]:
    made = RealHouse(folder, runtimes, {"one": kind})
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
