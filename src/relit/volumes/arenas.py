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
        self._free: asyncio.Queue[memoryview] = asyncio.Queue()
        for _ in range(count):
            arena = mmap.mmap(-1, _WINDOW)
            arena.write(bytes(_WINDOW))  # touched now, so that no page of it is missing during a freeze
            self._free.put_nowait(memoryview(arena))

    @asynccontextmanager
    async def one(self) -> AsyncIterator[memoryview]:
        """One of them, as soon as it is free."""
        arena = await self._free.get()
        try:
            yield arena
        finally:
            self._free.put_nowait(arena)
