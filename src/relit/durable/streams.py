"""What a run emits on its way: buffered, written in the background, never behind the step that follows it.

Items carry where they came from: a step's position and attempt, or the name of the scope of the body that emitted
them. A replay emits again; an item of a body is left out when the run has written as many of that scope before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from relit.lib import crashpoints
from relit.store.values import StreamItem

_PAGE = 1000
_BATCH = 500


class Sink(Protocol):
    """What a stream needs of the outside."""

    async def seal(self, packed: bytes) -> bytes: ...

    async def emit(self, items: list[StreamItem]) -> None: ...

    async def written(self, after: int, limit: int) -> list[StreamItem]: ...

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None: ...


class Stream:
    """One run's emitted items."""

    def __init__(self, sink: Sink, streamed: int) -> None:
        self._sink = sink
        self._next = streamed
        self._streamed = streamed
        self._before: Counter[str] | None = None if streamed else Counter()
        self._buffer: list[tuple[str, int, int, bytes]] = []
        self._outbox: list[StreamItem] = []
        self._lock = asyncio.Lock()
        self._flushing = False

    def put(self, pos: str, attempt: int, ordinal: int, packed: bytes) -> None:
        """Emit. ``ordinal``: how many items the body's scope has emitted before; -1 for an item of a step."""
        self._buffer.append((pos, attempt, ordinal, packed))
        if not self._flushing:
            self._flushing = True
            self._sink.spawn(self._background)

    async def _background(self) -> None:
        try:
            await self.flush()
        finally:
            self._flushing = False

    async def flush(self) -> None:
        """Everything emitted so far is on disk when this returns."""
        if not self._buffer and not self._outbox and not self._lock.locked():
            return
        async with self._lock:
            while self._buffer or self._outbox:
                if not self._outbox:
                    batch = self._buffer[:_BATCH]
                    self._outbox = await self._number(batch)
                    del self._buffer[: len(batch)]  # not more: others were emitted meanwhile
                if self._outbox:
                    await self._write()

    async def _number(self, batch: list[tuple[str, int, int, bytes]]) -> list[StreamItem]:
        items: list[StreamItem] = []
        for pos, attempt, ordinal, packed in batch:
            if ordinal < 0 or ordinal >= await self._count(pos):
                data = await self._sink.seal(packed)
                items.append(StreamItem(idx=self._next + len(items), pos=pos, attempt=attempt, data=data))
        return items

    async def _write(self) -> None:
        crashpoints.point("emit.before")
        await self._sink.emit(self._outbox)  # written again with the same numbers when this is cut short
        crashpoints.point("emit.after")
        self._next += len(self._outbox)
        self._outbox = []

    async def _count(self, scope: str) -> int:
        if self._before is None:
            self._before = await self._read()
        return self._before[scope]

    async def _read(self) -> Counter[str]:
        """How many items each scope (and step) had written before this claim."""
        found: Counter[str] = Counter()
        after = -1
        while after < self._streamed - 1:
            page = await self._sink.written(after, _PAGE)
            if not page:
                break
            found.update(item.pos for item in page)
            after = page[-1].idx
        return found
