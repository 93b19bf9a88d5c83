"""What nobody waits for is written down together, a moment later: it is one commit."""

from __future__ import annotations

import asyncio

SOON_S = 0.025


class Soon:
    """Of one loop."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def next(self) -> asyncio.Future[None]:
        """Done within ``SOON_S``, for all that ask until then; nobody may cancel it."""
        if self._next is None:
            loop = asyncio.get_running_loop()
            self._next = loop.create_future()
            loop.call_later(SOON_S, self._now)
        return self._next

    def _now(self) -> None:
        due, self._next = self._next, None
        if due is not None:
            due.set_result(None)
