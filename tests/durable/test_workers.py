"""Workers that die, stop, pause and share: real processes, real signals."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from durable_house import House
from worker_program import counts, holds, poison

import relit
from relit.durable.ticker import Ticker
from relit.durable.worker import Worker
from relit.errors import Fenced
from relit.store.values import Fence, Step

PROGRAM = Path(__file__).with_name("worker_program.py")


class Processes:
    """Worker processes on the house's database; all are dead at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[asyncio.subprocess.Process] = []

    async def start(self, lease_ms: int = 10_000) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), str(self.folder), str(lease_ms), stdout=asyncio.subprocess.PIPE
        )
        self.all.append(process)
        assert process.stdout is not None
        assert await process.stdout.readline(), "the worker has joined"
        return process

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.communicate()

    def witnessed(self) -> list[str]:
        path = self.folder / "witness"
        return path.read_text().splitlines() if path.exists() else []

    async def until(self, what: str) -> None:
        async with asyncio.timeout(20):
            while not any(line.endswith(what) for line in self.witnessed()):
                await asyncio.sleep(0.01)


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    found = Processes(tmp_path)
    yield found
    for process in found.all:
        await found.kill(process)


async def test_a_killed_workers_run_goes_on_at_once_where_it_was(house: House, processes: Processes) -> None:
    first = await processes.start()
    run = await house.engine.start(holds)
    await processes.until("hold go")
    second = await processes.start()
    clock = asyncio.get_running_loop().time
    await processes.kill(first)
    killed_at = clock()
    await house.until(run, lambda found: found.taken_over is not None and found.state == "running")
    assert clock() - killed_at < 3, "a death on this machine is seen, not waited for"
    (processes.folder / "go").touch()
    assert await house.engine.result(run, "20s") == f"held by {second.pid}"
    assert [line.split()[1:] for line in processes.witnessed()].count(["step", "1"]) == 1


async def test_two_workers_share_runs_and_run_each_step_once(house: House, processes: Processes) -> None:
    await processes.start()
    await processes.start()
    runs = [await house.engine.start(counts, [3]) for _ in range(20)]
    assert [await house.engine.result(run, "20s") for run in runs] == [3] * 20
    assert len(processes.witnessed()) == 60


async def test_a_worker_suspended_past_its_lease_writes_nothing(house: House, processes: Processes) -> None:
    paused = await processes.start(lease_ms=900)
    run = await house.engine.start(holds)
    await processes.until("hold go")
    paused.send_signal(signal.SIGSTOP)
    await house.until(run, lambda found: found.taken_over == "expiry")
    other = await processes.start(lease_ms=10_000)
    await house.until(run, lambda found: found.taken_over is not None and found.state == "running")
    (processes.folder / "go").touch()
    assert await house.engine.result(run, "20s") == f"held by {other.pid}"
    paused.send_signal(signal.SIGCONT)
    workers = await _until_rejoined(house, paused.pid)
    assert [s.seq for s in await house.store.steps(run)] == [1, 2]
    assert await house.engine.result(run, "20s") == f"held by {other.pid}"
    again = await house.engine.start(counts, [2])
    assert await house.engine.result(again, "20s") == 1
    assert workers, "it has joined again under a new id"


async def _until_rejoined(house: House, pid: int) -> list[str]:
    async with asyncio.timeout(20):
        while not (live := [each.id for each in await house.store.workers() if each.pid == pid]):
            await asyncio.sleep(0.02)
        return live


async def test_a_run_that_kills_its_workers_is_parked(house: House, processes: Processes) -> None:
    await house.ticker.stop()
    house.ticker = Ticker(house.store, poison_after=3)
    await house.ticker.start()
    run = await house.engine.start(poison)
    for _ in range(3):
        process = await processes.start()
        await process.communicate()
    found = await house.until_state(run, "parked")
    assert [line.split()[1] for line in processes.witnessed()].count("die") == 3
    assert found.reason is not None
    assert "poison" in found.reason


async def test_an_old_claim_writes_nothing(house: House) -> None:
    step = Step(seq=9, pos="9", kind="step", name="late", hash=b"", result=b"\x01\xc0")
    entered = asyncio.Event()

    async def endless() -> None:
        entered.set()
        await asyncio.Event().wait()

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(endless)

    worker = await house.work(flow)
    run = await house.engine.start(flow)
    await entered.wait()
    await worker.stop()
    with pytest.raises(Fenced):
        await house.store.append(Fence(run, 1), [step])
    assert all(s.name != "late" for s in await house.store.steps(run))


async def test_stop_gives_runs_back_without_counting_a_crash(house: House) -> None:
    entered = asyncio.Event()

    async def endless() -> None:
        entered.set()
        await asyncio.Event().wait()

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(endless)

    worker = await house.work(flow)
    run = await house.engine.start(flow)
    await entered.wait()
    await worker.stop()
    await worker.stop()
    found = await house.store.run(run)
    assert (found.state, found.crashes) == ("available", 0)
    assert worker.running == 0


async def test_drain_lets_runs_finish(house: House) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def held() -> str:
        entered.set()
        await go.wait()
        return "finished"

    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        return await ctx.step(held)

    worker = await house.work(flow)
    run = await house.engine.start(flow)
    await entered.wait()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.drain("20s"))
        go.set()
    assert await house.engine.result(run, "1s") == "finished"


async def test_concurrency_is_a_limit(house: House) -> None:
    now, most, full = 0, 0, asyncio.Event()

    async def busy() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0.005)
        now -= 1

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(busy)

    await house.work(flow, concurrency=3)
    runs = [await house.engine.start(flow) for _ in range(12)]
    for run in runs:
        await house.engine.result(run, "20s")
    assert most == 3


async def test_a_worker_that_loses_its_lease_joins_again(house: House) -> None:
    entered = asyncio.Event()
    calls: list[int] = []

    async def held() -> str:
        calls.append(1)
        entered.set()
        if len(calls) == 1:
            await asyncio.Event().wait()
        return "again"

    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        return await ctx.step(held)

    worker: Worker = await house.work(flow, lease_ms=600)
    before = worker.id
    run = await house.engine.start(flow)
    await entered.wait()
    await house.store.leave(before)
    assert await house.engine.result(run, "20s") == "again"
    assert worker.id != before


async def test_proof_of_death_comes_before_an_expired_lease(house: House, processes: Processes) -> None:
    await house.ticker.stop()
    process = await processes.start(lease_ms=300)
    run = await house.engine.start(holds)
    await processes.until("hold go")
    await processes.kill(process)
    async with asyncio.timeout(20):
        while not await house.store.expired_workers():
            await asyncio.sleep(0.01)
    await house.ticker.reap_once()
    assert (await house.store.run(run)).taken_over == "death"
