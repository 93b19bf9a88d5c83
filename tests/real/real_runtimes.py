"""What OpenClaw and Hermes need, installed once per checkout. `make test` does it before any test runs: a gigabyte that
is written beside them makes a disk stand still for seconds."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from relit.agents.recipes import kind_table, recipe_of
from relit.agents.runtimes import Runtimes

CACHE = Path(__file__).parents[2] / ".bench" / "runtimes"  # kept between runs, removed by `make clean`
KINDS = ("openclaw", "hermes")


def installed() -> Path:
    """Where they are. Several processes wait for the first one."""

    async def install() -> None:
        runtimes = Runtimes(CACHE, lambda _: None, env=dict(os.environ))
        for kind in KINDS:
            await runtimes.install(recipe_of(kind_table(kind)))

    asyncio.run(install())
    return CACHE


if __name__ == "__main__":
    print(installed())
    os.sync()
