"""relit on SQLite or PostgreSQL, in one process like its peers."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version

import measure
import relit_engine

from relit.durable.engine import Engine


async def start_latency(here: Engine, samples: int) -> dict[str, float]:
    """Milliseconds from the call that starts a run to its first line."""
    taken = []
    for pause in measure.pauses(samples, 0.05):
        await asyncio.sleep(pause)
        begin = time.perf_counter()
        started: float = await here.result(await here.start(relit_engine.note), type=float)
        taken.append((started - begin) * 1000)
    return measure.latency(taken)


async def cpu_per_step(here: Engine, runs: int) -> float:
    """Microseconds of CPU of the whole process, starting runs and fetching results included."""
    begin = time.process_time()
    await relit_engine.run_many(here, runs, 50)
    return (time.process_time() - begin) / (runs * 50) * 1e6


async def main(options: measure.Options) -> dict[str, float]:
    """The figures of the scenarios asked for, after a short run that warms everything up."""
    figures: dict[str, float] = {}
    async with (
        relit_engine.engine(options.database, options.folder) as here,
        relit_engine.worker(here, options.runs),
    ):
        await relit_engine.run_many(here, options.runs, 2)
        if "aggregate" in options.scenarios:
            figures["aggregate"] = await measure.rate(
                options.runs * options.steps, lambda: relit_engine.run_many(here, options.runs, options.steps)
            )
        if "sequential" in options.scenarios:
            figures["sequential"] = await measure.rate(
                options.sequential, lambda: relit_engine.run_many(here, 1, options.sequential)
            )
        if "cpu" in options.scenarios:
            figures["cpu_us_per_step"] = await cpu_per_step(here, options.runs)
        if "latency" in options.scenarios:
            figures |= await start_latency(here, options.samples)
    return figures


if __name__ == "__main__":
    asked = measure.options()
    measure.report("relit", version("relit"), asyncio.run(main(asked)))
