"""Waits: several at once, of which the first one wins, and those that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

TICK_S = 0.5


async def beat(seconds: float) -> None:
    """Sleep for so long; if it is long, to the tick that is nearest to its end. To be woken costs more than what is
    done then: so hundreds of tasks that each do a little every few seconds are woken together, twice a second."""
    now = asyncio.get_running_loop().time()
    ends = now + seconds if seconds < 4 * TICK_S else round((now + seconds) / TICK_S) * TICK_S
    await asyncio.sleep(ends - now)


async def next_tick() -> None:
    """Until the next of those ticks."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(TICK_S - now % TICK_S)


async def to_tick(seconds: float) -> None:
    """Sleep for no longer than that: if it is long, to the last of those ticks within it."""
    now = asyncio.get_running_loop().time()
    ends = (now + seconds) // TICK_S * TICK_S if seconds >= 2 * TICK_S else now + seconds
    await asyncio.sleep(ends - now)


async def race(*waits: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run all until the first returns, cancel the rest. Results in order; ``None`` for whoever did not get there.
    Raises what the first of them raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait) for wait in waits]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            return [task.result() if task in done else None for task in tasks]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def first(group: asyncio.TaskGroup, *waits: Coroutine[Any, Any, Any]) -> list[Any]:
    """A race whose losers are cancelled, and waited for by ``group`` alone. Raises what the first of them raised."""
    tasks = [group.create_task(wait) for wait in waits]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    return [task.result() if task in done else None for task in tasks]


async def pause(seconds: float, *events: asyncio.Event) -> None:
    """Sleep, unless one of the events is set first."""
    if seconds > 0 and not any(event.is_set() for event in events):
        await race(asyncio.sleep(seconds), *(event.wait() for event in events))
