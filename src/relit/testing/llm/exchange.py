"""One request, and what became of its answer."""

from __future__ import annotations

import asyncio
from typing import Literal

from relit.testing.llm.ask import Ask

End = Literal["finished", "left", "cut", "stopped", "failed"]
"""``finished``: all was handed to the connection. ``left``: the client went before the answer was whole. ``cut``: the
script cut the connection. ``stopped``: the server was stopped. ``failed``: the script's Python raised an error."""

_SECRET = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"})


class Exchange:
    """``no`` counts from 1. ``at_ms`` and ``ended_ms`` are wall-clock times; ``sent`` counts pieces of the answer.

    ``headers`` are without secrets; ``path`` has its query.
    """

    def __init__(self, no: int, ask: Ask, method: str, path: str, headers: dict[str, str], at_ms: int) -> None:
        self.no = no
        self.ask = ask
        self.method = method
        self.path = path
        self.headers = {name: _redacted(name, value) for name, value in headers.items()}
        self.at_ms = at_ms
        self.status: int | None = None
        self.sent = 0
        self.end: End | None = None
        self.ended_ms: int | None = None
        self._over = asyncio.Event()

    @property
    def open(self) -> bool:
        """Whether the answer is still to be finished."""
        return self.end is None

    def close(self, end: End, at_ms: int) -> None:
        """The server's own: it is over."""
        self.end, self.ended_ms = end, at_ms
        self._over.set()

    async def ended(self, timeout: float = 10.0) -> End:
        """How it ended, when it has. Raises ``TimeoutError``."""
        try:
            async with asyncio.timeout(timeout):
                await self._over.wait()
        except TimeoutError as error:
            raise TimeoutError(f"still open after {timeout:g} s: {self}") from error
        assert self.end is not None
        return self.end

    def __str__(self) -> str:
        return f"{self.no} {self.ask.protocol} {self.method} {self.path} {self.ask.user[:60]!r} {self.end or 'open'}"


def _redacted(name: str, value: str) -> str:
    if name not in _SECRET:
        return value
    scheme, _, rest = value.partition(" ")
    return f"{scheme} [redacted]" if rest and name.endswith("authorization") else "[redacted]"
