"""Kills, one by one and all at once, of everybody's children by turns."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from bells import Bells

AGE_S = 1.2  # no child is killed younger: some supervisors pause when a life was shorter than a second
PAUSE_S = 0.03  # between kills: what a restart leaves to do must not fall into the next one


class Side(NamedTuple):
    """One supervisor's children. ``pids`` answers where they are now. ``rest_s``: how long after a restart it has
    something left to do, which must not fall into the others' turns."""

    name: str
    names: Sequence[str]
    pids: Callable[[Sequence[str]], Mapping[str, int]]
    rest_s: float = 0


class Kills:
    """Kills children in turn, and hears how long their successors took."""

    def __init__(self, bells: Bells) -> None:
        self._bells = bells
        self._turn: dict[str, int] = {}

    def one_by_one(self, side: Side, count: int) -> list[float]:
        """Milliseconds from kill to the first instruction of the next life, of ``count`` children."""
        took = [self._one(side, self._next(side)) for _ in range(count)]
        time.sleep(side.rest_s)
        return took

    def _next(self, side: Side) -> str:
        turn = self._turn.get(side.name, 0)
        self._turn[side.name] = turn + 1
        return side.names[turn % len(side.names)]

    def _one(self, side: Side, name: str) -> float:
        self._old_enough([name])
        time.sleep(PAUSE_S)
        pid = side.pids([name])[name]
        killed = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        self._bells.until([name], killed)
        return (self._bells.last[name].at_ns - killed) / 1e6

    def storm(self, side: Side) -> float:
        """Seconds from the first kill to the last child's first instruction."""
        self._old_enough(side.names)
        pids = list(side.pids(side.names).values())
        assert len(pids) == len(side.names), "all of them run"
        killed = time.monotonic_ns()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self._bells.until(side.names, killed)
        return (max(self._bells.last[name].at_ns for name in side.names) - killed) / 1e9

    def _old_enough(self, names: Sequence[str]) -> None:
        youngest = max(self._bells.last[name].at_ns for name in names)
        time.sleep(max(0.0, AGE_S - (time.monotonic_ns() - youngest) / 1e9))


def interleaved(sides: Sequence[Side], measure: Callable[[Side], float], rounds: int) -> list[dict[str, float]]:
    """Each round measures every side once, every second one backwards."""
    found = []
    for number in range(rounds):
        order = sides if number % 2 == 0 else sides[::-1]
        found.append({side.name: measure(side) for side in order})
    return found


def p50(values: Sequence[float]) -> float:
    """The median."""
    return median(values)
