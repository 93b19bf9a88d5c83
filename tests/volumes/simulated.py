"""Simulated time for loops that do real work: it passes only while all of them sleep."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class Hours:
    """``loops`` of them sleep by it."""

    def __init__(self, loops: int) -> None:
        self.now = 0.0
        self.loops = loops
        self._asleep: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Until so many seconds have passed."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self.now + seconds, next(self._order), woken)
        heapq.heappush(self._asleep, entry)
        self._changed.set()
        try:
            await woken
        finally:
            if entry in self._asleep:  # it was cancelled
                self._asleep.remove(entry)
                heapq.heapify(self._asleep)

    async def pass_by(self, seconds: float) -> None:
        """Return when all sleep again and none is due before the end."""
        end = self.now + seconds
        while True:
            await self._all_asleep()
            if self._asleep[0][0] > end:
                break
            self.now, _, woken = heapq.heappop(self._asleep)
            woken.set_result(None)
        self.now = end

    async def _all_asleep(self) -> None:
        while len(self._asleep) < self.loops:
            self._changed.clear()
            await self._changed.wait()
