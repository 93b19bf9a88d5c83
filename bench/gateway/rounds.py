"""Everybody by turns: who calls whom, for how long, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from bench.gateway.load import Body, Door, crowd, for_a_while
from bench.gateway.verdict import Figures, percentile
from bench.node.processes import cpu_s


class Side(NamedTuple):
    """Somebody who is called. ``doors`` of a round; ``pids`` are its processes, where their CPU counts."""

    name: str
    doors: Callable[[int], Sequence[Door]]
    pids: Sequence[int] = ()


class Calling(NamedTuple):
    """``seconds`` of calls, one after the other through each door. They begin within ``spread_s``: not in step."""

    body: Body
    seconds: float
    spread_s: float = 0.0


async def measured(side: Side, number: int, how: Calling) -> Figures:
    """One side, once."""
    here = await crowd(side.doors(number), how.body)
    before = cpu_s(side.pids)
    heard, seconds = await for_a_while(here, how.seconds, how.spread_s, Random(number))
    cpu = cpu_s(side.pids) - before
    here.close()
    return {
        "p50_ms": percentile([each.took for each in heard], 0.5) * 1000,
        "p99_ms": percentile([each.took for each in heard], 0.99) * 1000,
        "first_ms": percentile([each.first for each in heard], 0.5) * 1000,
        "per_s": len(heard) / seconds,
        "cpu_ms": cpu * 1000 / len(heard),
    }


async def interleaved(sides: Sequence[Side], rounds: int, how: Calling) -> list[dict[str, Figures]]:
    """Each once in a round, every second round backwards. Round 0 only warms up, and is not told."""
    for side in sides:
        await measured(side, 0, how._replace(seconds=min(0.3, how.seconds)))
    found = []
    for number in range(1, rounds + 1):
        turns = sides if number % 2 else sides[::-1]
        found.append({side.name: await measured(side, number, how) for side in turns})
    return found
