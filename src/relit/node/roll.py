"""One look at the main processes of all lives, again and again: what hundreds of tasks would each do for themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relit.lib import proc
from relit.lib.footprint import Forest, look
from relit.node.race import TICK_S, next_tick

PARTS = round(8.0 / TICK_S)  # everybody is looked at once in 8 seconds, some of them at each tick
WEIGH_ROUNDS = 2
GROWTH_TICKS = 2  # between looks at trees that may grow to a limit only


class Roll:
    """The lives of a node, by the pids of their main processes."""

    def __init__(self) -> None:
        self._stopped: dict[int, asyncio.Future[None]] = {}
        self._weighed: dict[int, Callable[[int], None]] = {}
        self._growing: dict[int, tuple[int, asyncio.Future[int]]] = {}

    async def run(self) -> None:
        """For ever."""
        turn = 0
        while True:
            part = turn % PARTS
            for pid, waiter in list(self._stopped.items())[part::PARTS]:
                if not waiter.done() and proc.state_of(pid) == "T":
                    waiter.set_result(None)
            if turn // PARTS % WEIGH_ROUNDS == 0:
                for pid, weighed in list(self._weighed.items())[part::PARTS]:
                    weighed(proc.resident(pid))
            if self._growing and turn % GROWTH_TICKS == 0:
                self._measure()
            turn += 1
            await next_tick()

    def _measure(self) -> None:
        forest = Forest(look())
        for pid, (most, waiter) in self._growing.items():
            if not waiter.done() and (held := forest.tree(pid)) > most:
                waiter.set_result(held)

    async def outgrown(self, pid: int, most: int) -> int:
        """Until its tree holds more bytes than ``most``; answers how many."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._growing[pid] = (most, waiter)
        try:
            return await waiter
        finally:
            if self._growing.get(pid, (0, None))[1] is waiter:
                del self._growing[pid]

    async def stopped(self, pid: int) -> None:
        """Until somebody stopped it by a signal: the cheapest question, asked of all."""
        waiter = self._stopped[pid] = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            if self._stopped.get(pid) is waiter:
                del self._stopped[pid]

    async def weigh(self, pid: int, weighed: Callable[[int], None]) -> None:
        """Tell its resident bytes now and then. Never returns."""
        weighed(proc.resident(pid))
        self._weighed[pid] = weighed
        try:
            await asyncio.Event().wait()
        finally:
            if self._weighed.get(pid) is weighed:
                del self._weighed[pid]
