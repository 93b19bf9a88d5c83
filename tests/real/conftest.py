"""Real agents, installed once per machine through the ordinary registries."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_house import RealHouse, small_disk

from relit.agents.recipes import kind_table, recipe_of
from relit.agents.runtimes import Runtimes

CACHE = Path(__file__).parents[2] / ".bench" / "runtimes"  # kept between runs, removed by `make clean`
KINDS = ("openclaw", "hermes")


@pytest.fixture(scope="session")
def runtimes() -> Path:
    """Both kinds, installed. Several test processes wait for the first one."""

    async def install() -> None:
        runtimes = Runtimes(CACHE, lambda _: None, env=dict(os.environ))
        for kind in KINDS:
            await runtimes.install(recipe_of(kind_table(kind)))

    asyncio.run(install())
    return CACHE


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
