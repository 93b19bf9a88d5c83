"""The Restate service that the benchmark calls: served by hypercorn over HTTP/2, the SDK's streaming protocol."""

from __future__ import annotations

import time

import measure
import restate

bench = restate.Service("bench")


async def work(number: int) -> str:
    """One step with a 1 KB result."""
    return measure.kilobyte(number)


@bench.handler()
async def job(ctx: restate.Context, steps: int) -> int:
    """Steps one after the other; answers how many bytes they gave."""
    total = 0
    for number in range(steps):
        total += len(await ctx.run_typed("work", work, restate.RunOptions(), number))
    return total


@bench.handler()
async def note(ctx: restate.Context, number: int) -> float:
    """The moment at which it starts, by the machine's monotonic clock (one for all its processes)."""
    return time.perf_counter()


app = restate.app(services=[bench])
