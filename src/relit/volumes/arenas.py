"""Memory that contents are read through."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_WINDOW = 4 << 20


class Arenas:
    """Windows that contents are read through, shared by all captures: so many snapshots are taken at once."""

    def __init__(self, count: int = 2) -> None:
        self._turns = asyncio.Semaphore(count)
        self._free: list[memoryview] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[memoryview]:
        """One of them, as soon as it is free."""
        async with self._turns:
            arena = self._free.pop() if self._free else _made()
            try:
                yield arena
            finally:
                self._free.append(arena)


def _made() -> memoryview:
    """All its pages are there, so that none is missing during a freeze."""
    return memoryview(mmap.mmap(-1, _WINDOW, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE))
