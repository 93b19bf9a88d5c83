"""One snapshot in the making: its new chunks, and what is held in memory for now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait

from relit.manifest import Place

Chunks = list[tuple[bytes, bytes]]


class Cancelled(Exception):
    """Ends a thread for which nobody waits."""


class Attempt:
    """Chunks by id. ``limit``: bytes that may be held."""

    def __init__(self, limit: int) -> None:
        self.fresh: dict[bytes, Place] = {}
        self.reused: set[bytes] = set()
        self.met: set[bytes] = set()
        self.held: Chunks = []
        self.size = 0
        self.limit = limit
        self.cancelled = False

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.cancelled = True

    def new(self, id: bytes) -> bool:
        return id not in self.met

    def hold(self, id: bytes, data: memoryview) -> None:
        self.met.add(id)
        self.held.append((id, bytes(data)))
        self.size += len(data)

    def drain(self) -> Chunks:
        held, self.held, self.size = self.held, [], 0
        return held


class Behind:
    """Packs one batch while the next one is read. ``with``: in the reading thread, made in the loop."""

    def __init__(self, put: Callable[[Chunks], Coroutine[None, None, None]]) -> None:
        self._put = put
        self._loop = asyncio.get_running_loop()
        self._last: Future[None] | None = None

    def take(self, chunks: Chunks) -> None:
        """Begin with these when those before are done. Raises what went wrong with them."""
        if self._last is not None:
            self._last.result()
        self._last = asyncio.run_coroutine_threadsafe(self._put(chunks), self._loop)

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._last is not None and kind is None:
            self._last.result()
        elif self._last is not None:
            wait([self._last])  # nothing of this attempt goes on when it has failed
