"""The kill storm of ``make soak``, for a short while, on both databases; and a database that dies in the middle."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from relit.testing.postgres import Postgres

ROOT = Path(__file__).parents[2]


async def storm(*arguments: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "bench.soak", "--minutes", "0.3", *arguments)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)


async def passed(process: asyncio.subprocess.Process) -> dict[str, int]:
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
    counts: dict[str, int] = json.loads(out.splitlines()[-1])
    assert counts["runs acknowledged"] > 100
    assert counts.get("killed", 0) > 0
    return counts


@pytest.mark.crash
@pytest.mark.timeout(240)
async def test_a_storm_of_kills_loses_and_repeats_nothing() -> None:
    await passed(await storm())


@pytest.mark.crash
@pytest.mark.postgres
@pytest.mark.timeout(240)
async def test_a_storm_on_postgresql_whose_server_dies_three_times(own_postgres: Postgres) -> None:
    process = await storm("--database", own_postgres.create_database(), "--seed", "2")
    for _ in range(3):
        await asyncio.sleep(4)
        await asyncio.to_thread(own_postgres.restart, "immediate")
    await passed(process)
