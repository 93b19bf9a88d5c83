"""Real agents, installed once per machine through the ordinary registries."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_house import RealHouse

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
    made = RealHouse(tmp_path, runtimes, {"one": request.param})
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
