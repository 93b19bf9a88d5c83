"""Absurd on PostgreSQL: asynchronous workers, each with its own connection, steps that return 1 KB.

One worker with one connection serialises everything, so there are several; eight were the fastest here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import measure
import psycopg
from absurd_sdk import AsyncAbsurd
from absurdctl import BUNDLED_SCHEMA_SQL

WORKERS = 8
starts: asyncio.Queue[float] = asyncio.Queue()


async def work(number: int) -> str:
    """One step with a 1 KB result."""
    return measure.kilobyte(number)


async def job(parameters: Any, ctx: Any) -> int:
    """Steps one after the other; answers how many bytes they gave."""
    total = 0
    for number in range(parameters["steps"]):
        total += len(await ctx.step(f"work-{number}", lambda number=number: work(number)))
    return total


async def note(parameters: Any, ctx: Any) -> None:
    """Records the moment at which it starts."""
    starts.put_nowait(time.perf_counter())


def client(database: str) -> AsyncAbsurd:
    """A connection of its own that knows both tasks."""
    absurd = AsyncAbsurd(database, queue_name="bench")
    absurd.register_task("job")(job)
    absurd.register_task("note")(note)
    return absurd


@contextlib.asynccontextmanager
async def workers(options: measure.Options) -> AsyncIterator[None]:
    """Workers that share the concurrency of ``options.runs``."""
    polling = {} if options.polling is None else {"poll_interval": options.polling}
    everyone = [client(options.database) for _ in range(WORKERS)]
    share = max(1, options.runs // WORKERS)
    async with asyncio.TaskGroup() as group:
        for number, worker in enumerate(everyone):
            group.create_task(worker.start_worker(worker_id=f"w{number}", concurrency=share, **polling))
        try:
            yield
        finally:
            for worker in everyone:
                worker.stop_worker()
    for worker in everyone:
        await worker.close()


async def answer(absurd: AsyncAbsurd, task: str) -> int:
    """The task's result, asked for more often than the SDK's own wait does (it backs off to a second)."""
    while True:
        found = await absurd.fetch_task_result(task)
        if found is not None and found.state not in ("pending", "running"):
            return found.result
        await asyncio.sleep(0.005)


async def run_many(absurd: AsyncAbsurd, runs: int, steps: int) -> float:
    """Seconds from the first spawn to the last result."""
    begin = time.perf_counter()
    tasks = [(await absurd.spawn("job", {"steps": steps}))["task_id"] for _ in range(runs)]
    answers = []
    for task in tasks:
        answers.append(await answer(absurd, task))
    seconds = time.perf_counter() - begin
    measure.check(answers, steps)
    return seconds


async def start_latency(absurd: AsyncAbsurd, samples: int) -> dict[str, float]:
    """Milliseconds from spawn to the task's first line."""
    taken = []
    for number, pause in enumerate(measure.pauses(samples, 0.25)):
        await asyncio.sleep(pause)
        begin = time.perf_counter()
        await absurd.spawn("note", {"number": number})
        taken.append((await starts.get() - begin) * 1000)
    return measure.latency(taken)


async def main(options: measure.Options) -> dict[str, float]:
    """The figures of the scenarios asked for, after a short run that warms everything up."""
    with psycopg.connect(options.database, autocommit=True) as connection:
        connection.execute(BUNDLED_SCHEMA_SQL)
    figures: dict[str, float] = {}
    absurd = client(options.database)
    await absurd.create_queue()
    async with workers(options):
        await run_many(absurd, options.runs, 2)
        if "aggregate" in options.scenarios:
            figures["aggregate"] = await measure.rate(
                options.runs * options.steps, lambda: run_many(absurd, options.runs, options.steps)
            )
        if "sequential" in options.scenarios:
            figures["sequential"] = await measure.rate(
                options.sequential, lambda: run_many(absurd, 1, options.sequential)
            )
        if "latency" in options.scenarios:
            figures |= await start_latency(absurd, options.samples)
    await absurd.close()
    return figures


if __name__ == "__main__":
    asked = measure.options()
    measure.report("absurd", version("absurd-sdk"), asyncio.run(main(asked)))
