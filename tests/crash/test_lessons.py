"""Failures that users of other durable engines met, as tests: each names the issue where it was reported.

DBOS (dbos-inc/dbos-transact-py): 716, a database restart during recovery strands runs; 742, one run executed twice;
804, a rolling restart strands runs; 805, a run stuck between two steps.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bench.soak_worker import WORKFLOW, open_engine

from relit.durable.engine import Engine
from relit.durable.ticker import Ticker
from relit.testing.postgres import Postgres

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.timeout(120), pytest.mark.postgres, pytest.mark.slow]


class Fleet:
    """Worker processes of the soak's program on one database."""

    def __init__(self, folder: Path, server: Postgres) -> None:
        self.folder = folder
        self.server = server
        self.url = server.create_database()
        self.workers: list[asyncio.subprocess.Process] = []
        (folder / "sink").mkdir()

    async def add(self) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "bench.soak_worker", str(self.folder), self.url)
        worker = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        self.workers.append(worker)
        return worker

    async def end(self) -> None:
        for worker in self.workers:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()

    def calls(self) -> Counter[str]:
        path = self.folder / "witness"
        return Counter(path.read_text().splitlines() if path.exists() else [])

    async def until_called(self, count: int) -> None:
        async with asyncio.timeout(60):
            while sum(self.calls().values()) < count:
                await asyncio.sleep(0.01)


@pytest.fixture
async def fleet(tmp_path: Path, own_postgres: Postgres) -> AsyncIterator[Fleet]:
    found = Fleet(tmp_path, own_postgres)
    yield found
    await found.end()


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Engine]:
    engine = await open_engine(fleet.folder, fleet.url)
    ticker = Ticker(engine.store, poison_after=1000)
    await ticker.start()
    yield engine
    await ticker.stop()
    await engine.store.stop()


async def begin(engine: Engine, count: int) -> list[str]:
    return [run.id for run in await engine.store.enqueue([await engine.make(WORKFLOW, [n]) for n in range(count)])]


async def all_complete(engine: Engine, runs: list[str]) -> None:
    await asyncio.gather(*(engine.result(run, timeout="60s") for run in runs))


async def registered(engine: Engine, worker: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(60):
        while all(each.pid != worker.pid for each in await engine.store.workers()):
            await asyncio.sleep(0.01)


async def test_716_a_database_that_restarts_during_recovery_strands_nothing(fleet: Fleet, engine: Engine) -> None:
    first, runs = await fleet.add(), await begin(engine, 40)
    await fleet.until_called(60)
    first.kill()
    await first.wait()
    second = asyncio.create_task(fleet.add())
    await asyncio.to_thread(fleet.server.restart, "immediate")
    await second
    await fleet.add()  # the second may have found no database and ended: another takes its place
    await all_complete(engine, runs)


async def test_742_one_id_is_one_run_however_many_ask(fleet: Fleet, engine: Engine) -> None:
    other = await open_engine(fleet.folder, fleet.url)
    for _ in range(2):
        await fleet.add()
    asked = [(engine, other)[n % 2].start(WORKFLOW, [7], id="the-one") for n in range(20)]
    assert set(await asyncio.gather(*asked)) == {"the-one"}
    await all_complete(engine, ["the-one"])
    assert fleet.calls() == Counter({f"step 7 {k}": 1 for k in range(5)})
    await other.store.stop()


async def test_804_a_rolling_restart_strands_nothing_and_runs_nothing_twice(fleet: Fleet, engine: Engine) -> None:
    workers = [await fleet.add() for _ in range(2)]
    runs = await begin(engine, 60)
    for old in workers:
        await fleet.until_called(30)
        await fleet.add()
        await registered(engine, old)  # from then on it stops in good order
        old.terminate()
        assert await old.wait() == 0
    await all_complete(engine, runs)
    steps = [step for run in runs for step in await engine.store.steps(run)]
    assert len(steps) == 60 * 7


async def test_805_a_run_between_two_steps_goes_on_without_a_restart(fleet: Fleet, engine: Engine) -> None:
    first, runs = await fleet.add(), await begin(engine, 1)
    await fleet.until_called(2)
    await fleet.add()
    first.kill()
    await all_complete(engine, runs)
    assert all(count == 1 for line, count in fleet.calls().items() if line == "step 0 0")
