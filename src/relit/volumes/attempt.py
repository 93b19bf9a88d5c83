"""One snapshot in the making: its new chunks, and what is held in memory for now."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait

from relit.manifest import Place

Chunks = list[tuple[bytes, bytes]]
_WAITING = 2  # batches: one is written to the disk, one is compressed meanwhile


class Cancelled(Exception):
    """Ends a thread for which nobody waits."""


class Grew(Exception):
    """There is more to read than there seemed to be."""


class Attempt:
    """Chunks by id. ``limit``: bytes that may be held."""

    def __init__(self, limit: int) -> None:
        self.fresh: dict[bytes, Place] = {}
        self.reused: set[bytes] = set()
        self.met: set[bytes] = set()
        self.held: Chunks = []
        self.size = 0
        self.limit = limit
        self.began_ms = 0  # no file was read before
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
    """Packs batches while the next one is read. ``with``: in the reading thread, made in the loop."""

    def __init__(self, put: Callable[[Chunks], Coroutine[None, None, None]]) -> None:
        self._put = put
        self._loop = asyncio.get_running_loop()
        self._going: deque[Future[None]] = deque()

    def take(self, chunks: Chunks) -> None:
        """Begin with these when there are not too many under way. Raises what went wrong with those before."""
        while len(self._going) >= _WAITING:
            self._going.popleft().result()
        self._going.append(asyncio.run_coroutine_threadsafe(self._put(chunks), self._loop))

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        wait(self._going)  # nothing of this attempt goes on when it has failed
        for each in self._going if kind is None else ():
            each.result()
