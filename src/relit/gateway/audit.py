"""What was refused because of who asked or where it was to go, on record: once a minute for all that are alike."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from relit.errors import StoreError
from relit.events import Event
from relit.gateway.refusal import Refused
from relit.lib.clock import Clock

_LOG = logging.getLogger(__name__)
_MOST = 100  # kinds of refusals that are counted apart
_EVERY_S = 60.0
TOLD = frozenset({401, 403, 404})
Record = Callable[[Sequence[Event]], Awaitable[None]]
Alike = tuple[str, str, str]  # whose token it was, if anybody's; relit's code, and why


class Audit:
    """``run`` writes down what was ``seen``: the first of its kind at once."""

    def __init__(self, record: Record, clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._seen: Counter[Alike] = Counter()
        self._told: dict[Alike, float] = {}
        self._news = asyncio.Event()

    def saw(self, agent: str, refused: Refused) -> None:
        """A call was refused."""
        if refused.status not in TOLD:
            return
        alike = (agent, refused.code, refused.message)
        self._seen[alike if len(self._seen) < _MOST or alike in self._seen else (agent, refused.code, "")] += 1
        self._news.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self.flush(every_s=_EVERY_S)
            await asyncio.sleep(1.0)
            if self._seen:
                self._news.set()

    async def flush(self, every_s: float = 0.0) -> None:
        """Write down what was not told in the last ``every_s`` seconds."""
        now = self._clock.monotonic()
        due = [each for each in self._seen if now - self._told.get(each, -every_s) >= every_s]
        events = [self._event(each, self._seen.pop(each)) for each in due]
        self._told = {each: at for each, at in self._told.items() if now - at < every_s} | dict.fromkeys(due, now)
        if not events:
            return
        try:
            await self._record(events)
        except StoreError as error:
            _LOG.warning("calls that were refused are not on record: %s; %s", error, [each.data for each in events])

    def _event(self, alike: Alike, count: int) -> Event:
        agent, code, why = alike
        data = {"code": code, "why": why, "count": count}
        return Event(id="", at=self._clock.now_ms(), name="gateway.refused", agent=agent or None, data=data)
