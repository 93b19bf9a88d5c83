"""A call under way, in a task of its own: its caller may hang up while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from relit.gateway.entry import Ending, Entry
from relit.gateway.listener import Listener
from relit.gateway.providers import Answer

T = TypeVar("T")


class Work:
    """What is being written down is not cut short by ``cancel``: that waits, and ``check`` raises it. So writing needs
    no task of its own, whose every step would wait for all else that the loop has to do."""

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self._task: asyncio.Task[Any] | None = None
        self._writing = False
        self._cut = False

    def start(self, doing: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Once."""
        self._task = asyncio.get_running_loop().create_task(doing)
        return self._task

    def cancel(self) -> None:
        """Now, or when what is being written is on disk."""
        if self._writing:
            self._cut = True
        elif self._task is not None:
            self._task.cancel()

    def check(self) -> None:
        """CancelledError when it was cancelled meanwhile."""
        if self._cut:
            self._cut = False
            raise asyncio.CancelledError

    async def open(self, opening: Awaitable[Entry | None]) -> None:
        """Written down before it is sent. Raises what ``opening`` raises; ``check`` comes next."""
        self.entry = await self._uncut(opening)

    def sent(self) -> None:
        """It goes to a provider, who may have it from now on."""
        if self.entry is not None:
            self.entry.unheard = False

    async def written(self) -> None:
        """It is on disk, so that its answer may be passed on. Raises ``Refused``."""
        if self.entry is not None:
            await self._uncut(self.entry.written())
            self.check()

    async def pour(self, answer: Answer, listener: Listener) -> bytes:
        """Each piece when it comes; the provider is read no faster than the agent reads. Of an answer that is written
        down and is no stream the last piece is held back, and answered: nobody may know it whole before it is on disk.
        Raises ``Refused``: no budget has room for more of it."""
        held, entry = b"", self.entry
        while piece := await answer.read():
            if entry is not None:
                if entry.opening is not None:
                    await self.written()
                entry.read(piece)
                if not entry.affordable:
                    await self._uncut(entry.afford())
                    self.check()
            if entry is None or entry.streams:
                await listener.hear(piece)
                continue
            if held:
                await listener.hear(held)
            held = piece
        return held

    async def end(self, state: Ending, why: str = "") -> None:
        """Written down that it has ended."""
        if self.entry is not None:
            await self._uncut(self.entry.end(state, why))
            self.check()

    def close(self) -> asyncio.Task[None] | None:
        """The same, soon, where nobody waits for it; ``None``: there is nothing to write."""
        if self.entry is None or self.entry.over:
            return None
        return asyncio.get_running_loop().create_task(self.entry.end_soon())

    async def _uncut(self, writing: Awaitable[T]) -> T:
        self._writing = True
        try:
            return await writing
        finally:
            self._writing = False
