"""An unforeseen error must not leave a process that looks alive and does nothing."""

from __future__ import annotations

import asyncio

import pytest
from durable_house import House

import relit
from relit.durable.scheduler import Scheduler
from relit.durable.ticker import Ticker
from relit.durable.worker import Worker


def breaks(house: House, statement: str) -> None:
    """From now on a statement of the store is nonsense: an error that nobody foresaw."""
    house.store._database._sql[statement] = "SELECT nonsense"  # type: ignore[attr-defined]


@relit.workflow(agent="test")
async def nothing(ctx: relit.Context) -> None:
    """Ends at once."""


async def test_a_broken_ticker_is_reported(house: House, caplog: pytest.LogCaptureFixture) -> None:
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    breaks(house, "next_due")
    ticker = Ticker(house.store, on_failure=failed.set_result)
    await ticker.start()
    assert "nonsense" in str(await asyncio.wait_for(failed, 10))
    assert "the ticker failed" in caplog.text
    await ticker.stop()


async def test_a_broken_scheduler_is_reported(house: House) -> None:
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    breaks(house, "schedules_all")
    scheduler = Scheduler(house.engine, on_failure=failed.set_result)
    await scheduler.start()
    assert "nonsense" in str(await asyncio.wait_for(failed, 10))
    await scheduler.stop()


async def test_a_worker_that_cannot_claim_is_reported(house: House) -> None:
    failed: asyncio.Queue[BaseException] = asyncio.Queue()
    worker = Worker(house.engine, [nothing], on_failure=failed.put_nowait)
    await worker.start()
    breaks(house, "run_pick")
    await house.engine.start(nothing)
    assert "nonsense" in str(await asyncio.wait_for(failed.get(), 10))
    await worker.stop()


@relit.workflow(agent="test")
async def waits(ctx: relit.Context) -> None:
    await ctx.signal("go")


async def test_a_run_whose_journal_cannot_be_read_is_parked_and_says_why(house: House) -> None:
    await house.work(waits)
    run = await house.engine.start(waits)
    await house.until_state(run, "waiting")
    whole = house.store._database._sql["steps_of"]  # type: ignore[attr-defined]
    breaks(house, "steps_of")
    await house.engine.signal(run, "go")
    parked = await house.until_state(run, "parked")
    assert parked.reason == "internal-error"
    assert b"nonsense" in (parked.error or b"")
    house.store._database._sql["steps_of"] = whole  # type: ignore[attr-defined]
    await house.store.retry(run)
    await house.until_state(run, "completed")
