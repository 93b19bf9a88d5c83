"""What is counted for /metrics: requests, how they were answered and how long they took; events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from relit.events import CATALOGUE
from relit.lib.clock import Clock
from relit.store.base import Store

_PAGE = 5000
_PAGES = 20


class Outcome:
    """What became of a request; 500 unless it got as far as an answer."""

    status = 500


class Meter:
    """Counts by method, route and status."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.requests: dict[tuple[str, str, int], int] = {}
        self.seconds: dict[tuple[str, str], float] = {}

    @contextmanager
    def measure(self, method: str, path: str) -> Iterator[Outcome]:
        """Count the request inside. A stream counts until its first byte."""
        outcome = Outcome()
        began = self._clock.monotonic()
        try:
            yield outcome
        finally:
            row = (method, path, outcome.status)
            self.requests[row] = self.requests.get(row, 0) + 1
            self.seconds[method, path] = self.seconds.get((method, path), 0.0) + self._clock.monotonic() - began


class EventCount:
    """Events by name since this was made. Read at each scrape from where the last one ended, a bounded stretch at a
    time: after a burst the count catches up over a few scrapes, and skips nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursor: str | None = None
        self._counts = dict.fromkeys(CATALOGUE, 0)

    async def read(self) -> dict[str, int]:
        """The counts now."""
        if self._cursor is None:
            self._cursor = await self._store.last_event()
        for _ in range(_PAGES):
            page = await self._store.events(self._cursor, _PAGE)
            for event in page:
                self._counts[event.name] = self._counts.get(event.name, 0) + 1
                self._cursor = event.id
            if len(page) < _PAGE:
                break
        return self._counts
