"""relit as a user would put it together in one process: a store, an engine, a worker, a ticker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import measure

import relit
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.ticker import Ticker
from relit.durable.worker import Worker
from relit.store.base import Store
from relit.store.blobs import ObstoreBlobs
from relit.store.sql.sqlite.store import SqliteStore


async def work(number: int) -> str:
    """One step with a 1 KB result."""
    return measure.kilobyte(number)


@relit.workflow
async def job(ctx: relit.Context, steps: int) -> int:
    """Steps one after the other; answers how many bytes they gave."""
    total = 0
    for number in range(steps):
        total += len(await ctx.step(work, number))
    return total


@relit.workflow
async def note(ctx: relit.Context) -> float:
    """The moment at which it starts, by the machine's monotonic clock (one for all its processes)."""
    return time.perf_counter()


@relit.workflow
async def waiting(ctx: relit.Context) -> float:
    """Waits for a signal, as long as it takes; answers the moment at which it went on."""
    await ctx.signal("go")
    return time.perf_counter()


@relit.workflow
async def long(ctx: relit.Context, steps: int, at_once: int) -> list[float]:
    """A long journal, then a wait; answers when the replay began and ended."""
    begin = time.perf_counter()
    for first in range(0, steps, at_once):
        if at_once == 1:
            await ctx.step(work, first)
        else:
            await ctx.gather(*(ctx.step(work, number) for number in range(first, first + at_once)))
    end = time.perf_counter()
    await ctx.signal("go")
    return [begin, end]


@relit.workflow
async def growing(ctx: relit.Context, steps: int, every: int) -> list[tuple[int, float, float]]:
    """A hundred steps at once, on and on; answers (steps done, wall clock, CPU time) at each ``every`` steps."""
    marks = [(0, time.perf_counter(), time.process_time())]
    for first in range(0, steps, 100):
        await ctx.gather(*(ctx.step(work, number) for number in range(first, first + 100)))
        if (first + 100) % every == 0:
            marks.append((first + 100, time.perf_counter(), time.process_time()))
    return marks


DEFINITIONS: list[Any] = [job, note, waiting, long, growing]


def open_store(database: str, folder: Path) -> Store:
    """The store, not started. Only the dialect that is used is imported, as in relit's own processes."""
    if database == "sqlite":
        return SqliteStore(folder / "relit.db")
    from relit.store.sql.postgres.store import PostgresStore

    return PostgresStore(database)


@contextlib.asynccontextmanager
async def engine(database: str, folder: Path) -> AsyncIterator[Engine]:
    """An engine on a SQLite file in ``folder``, or on the PostgreSQL database that a DSN names."""
    store = open_store(database, folder)
    await store.start()
    try:
        yield Engine(store, Payloads(ObstoreBlobs(str(folder / "blobs"))))
    finally:
        await store.stop()


@contextlib.asynccontextmanager
async def worker(here: Engine, concurrency: int) -> AsyncIterator[Worker]:
    """A worker and a ticker beside it."""
    found, ticker = Worker(here, DEFINITIONS, concurrency=concurrency), Ticker(here.store)
    await ticker.start()
    await found.start()
    try:
        yield found
    finally:
        await found.stop()
        await ticker.stop()


async def run_many(here: Engine, runs: int, steps: int) -> float:
    """Seconds from the first start to the last result."""

    async def one() -> int:
        answer: int = await here.result(await here.start(job, (steps,)), type=int)
        return answer

    begin = time.perf_counter()
    answers = await asyncio.gather(*(one() for _ in range(runs)))
    seconds = time.perf_counter() - begin
    measure.check(answers, steps)
    return seconds
