"""A call under way, in a task of its own: its caller may hang up while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from relit.gateway.ledger import Ending, Entry


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
        self._writing = True
        try:
            self.entry = await opening
        finally:
            self._writing = False

    async def end(self, state: Ending, why: str = "") -> None:
        """Written down that it has ended."""
        if self.entry is None:
            return
        self._writing = True
        try:
            await self.entry.end(state, why)
        finally:
            self._writing = False
        self.check()
