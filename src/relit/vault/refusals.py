"""Who was refused what, and why, on record: at once the first time, then once a minute for all that are alike."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from relit.errors import StoreError
from relit.lib.clock import Clock
from relit.lib.service import Tasks

_LOG = logging.getLogger(__name__)
_MOST = 100  # kinds of refusals that are counted apart
_EVERY_S = 60.0
OnRefusal = Callable[[str, str, str], None]  # who, relit's code, and why


class Refusal(NamedTuple):
    """``who`` it was, empty: nobody knows; ``code`` is relit's; how many ``times`` since the last record."""

    who: str
    code: str
    why: str
    times: int


Record = Callable[[Sequence[Refusal]], Awaitable[None]]


class Refusals:
    """Hands what was ``saw`` to ``record``, between ``start`` and ``stop``."""

    def __init__(self, record: Record, clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._tasks = Tasks(lambda error: _LOG.error("the record of what is refused failed", exc_info=error))
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self._told: dict[tuple[str, str, str], float] = {}
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()

    async def start(self) -> None:
        """From now on it is written down while it happens."""
        self._tasks.spawn(self._run(), "refusals")

    async def stop(self) -> None:
        """Write down what is left."""
        async with self._writing:  # what is being written is not cut off
            await self._tasks.stop()
        await self.flush()

    def saw(self, who: str, code: str, why: str) -> None:
        """Somebody was refused."""
        alike = (who, code, why)
        self._seen[alike if len(self._seen) < _MOST or alike in self._seen else (who, code, "")] += 1
        self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self.flush(every_s=_EVERY_S)
            await asyncio.sleep(1.0)
            if self._seen:
                self._news.set()

    async def flush(self, every_s: float = 0.0) -> None:
        """Write down what was not told in the last ``every_s`` seconds. What was seen before is on record then, whoever
        writes it."""
        async with self._writing:
            await self._write(every_s)

    async def _write(self, every_s: float) -> None:
        now = self._clock.monotonic()
        due = [each for each in self._seen if now - self._told.get(each, -every_s) >= every_s]
        found = [Refusal(*each, self._seen.pop(each)) for each in due]
        self._told = {each: at for each, at in self._told.items() if now - at < every_s} | dict.fromkeys(due, now)
        if not found:
            return
        try:
            await self._record(found)
        except StoreError as error:
            _LOG.warning("what was refused is not on record: %s; %s", error, found)
