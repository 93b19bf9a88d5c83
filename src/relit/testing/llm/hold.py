"""Answers held back until a test lets them go."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from relit.testing.llm.exchange import Exchange
from relit.testing.llm.script import Matching


class Hold:
    """Answers that match wait here when ``after`` pieces are sent; ``waiting`` are those that do now.

    With ``after=0`` not even the status line is sent. As a context manager it releases at the end of the block.
    """

    def __init__(self, matching: Matching, after: int) -> None:
        self.waiting: list[Exchange] = []
        self._matching = matching
        self._after = after
        self._released = asyncio.Event()
        self._caught = asyncio.Event()

    async def caught(self, timeout: float = 30.0) -> Exchange:
        """The longest waiting one, when there is one. Raises ``TimeoutError``."""
        try:
            async with asyncio.timeout(timeout):
                while not self.waiting:
                    self._caught.clear()
                    await self._caught.wait()
        except TimeoutError as error:
            raise TimeoutError(f"no answer came to this hold within {timeout:g} s") from error
        return self.waiting[0]

    def release(self) -> None:
        """Let go those that wait, and hold none from now on. Safe twice."""
        self._released.set()

    async def reach(self, exchange: Exchange, sent: int) -> None:
        """The server's own: wait here, if this answer has to."""
        if self._released.is_set() or sent != self._after or not self._matching(exchange.ask):
            return
        self.waiting.append(exchange)
        self._caught.set()
        try:
            await self._released.wait()
        finally:
            self.waiting.remove(exchange)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
