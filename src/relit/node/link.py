"""The node's line to the server: reports go out when they can, wishes come in. The node never waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from relit.control.base import Control
from relit.control.care import Incident
from relit.control.values import Death, Desired, NodeInfo
from relit.errors import RelitError
from relit.events import Event
from relit.lib.clock import Clock
from relit.lib.ids import new_id
from relit.node.race import race

EVENTS_MAX = 1000  # kept while the server is away; the oldest go first, and are counted
BATCH = 100
FOLLOW_S = 30.0
RETRY_FIRST_S, RETRY_MOST_S = 0.05, 2.0


class Link:
    """Queues and delivers, says hello, follows what the server wants."""

    def __init__(
        self,
        control: Control,
        clock: Clock,
        *,
        info: Callable[[], NodeInfo],
        wanted: Callable[[Desired], Awaitable[None]],
    ) -> None:
        self._control = control
        self._clock = clock
        self._info = info
        self._wanted = wanted
        self._version = 0
        self._events: deque[Event] = deque()
        self._deaths: deque[Death] = deque(maxlen=EVENTS_MAX)
        self._troubles: dict[str, Incident] = {}  # the newest word of each
        self._filled = asyncio.Event()
        self._poked = asyncio.Event()
        self.dropped = 0
        self.trouble = ""  # why the server was last not reached; empty while it is

    def note(self, name: str, data: dict[str, Any]) -> None:
        """Queue an event."""
        if len(self._events) >= EVENTS_MAX:
            self._events.popleft()
            self.dropped += 1
        self._events.append(Event(new_id(), self._clock.now_ms(), name, data=data))
        self._filled.set()

    def died(self, death: Death) -> None:
        """Queue a death: delivered before all events, because runs wait for it."""
        self._deaths.append(death)
        self._filled.set()

    def incident(self, incident: Incident) -> None:
        """Queue an incident as it is now, instead of what was queued of it."""
        if len(self._troubles) >= EVENTS_MAX and incident.id not in self._troubles:
            del self._troubles[next(iter(self._troubles))]
            self.dropped += 1
        self._troubles[incident.id] = incident
        self._filled.set()

    def poke(self) -> None:
        """Something became ready, perhaps the server: try again at once."""
        self._poked.set()

    async def deliver(self) -> None:
        """Send what is queued, for ever."""
        while True:
            await self._filled.wait()
            await self._insist(self._send_all, self._let_go)

    async def follow(self) -> None:
        """Say hello after every break, and carry out what the server wants, for ever."""
        while True:
            await self._insist(self._greet_and_follow, lambda: None)

    async def flush(self, seconds: float) -> None:
        """A last try before the node ends."""
        try:
            async with asyncio.timeout(seconds):
                await self._send_all()
        except (TimeoutError, RelitError) as error:
            self.trouble = str(error)

    async def _insist(self, work: Callable[[], Awaitable[None]], refused: Callable[[], None]) -> None:
        """Do it; while the server is away wait and do it again. ``refused``: it will never take this."""
        wait = RETRY_FIRST_S
        while True:
            try:
                await work()
                self.trouble = ""
                return
            except RelitError as error:
                self.trouble = error.what
                if not error.retry:
                    refused()
            self._poked.clear()
            await race(asyncio.sleep(wait), self._poked.wait())
            wait = min(RETRY_MOST_S, wait * 2)

    def _let_go(self) -> None:
        """Drop what the server refuses for good, so that it does not stop what comes behind."""
        if self._deaths:
            self._deaths.popleft()
        elif self._troubles:
            del self._troubles[next(iter(self._troubles))]
        elif self._events:
            self._events.popleft()
        self.dropped += 1

    async def _send_all(self) -> None:
        while self._deaths or self._troubles or self._events:
            if self._deaths:
                death = self._deaths[0]
                await self._control.worker_died(death)
                if self._deaths and self._deaths[0] is death:  # a full queue may have lost it meanwhile
                    self._deaths.popleft()
                continue
            if self._troubles:
                await self._send_trouble(next(iter(self._troubles.values())))
                continue
            batch = list(self._events)[:BATCH]
            await self._control.report(batch)
            sent = {event.id for event in batch}
            while self._events and self._events[0].id in sent:
                self._events.popleft()
        self._filled.clear()

    async def _send_trouble(self, incident: Incident) -> None:
        await self._control.incident(incident)
        if self._troubles.get(incident.id) is incident:  # else it said something new meanwhile
            del self._troubles[incident.id]

    async def _greet_and_follow(self) -> None:
        await self._control.hello(self._info())
        while True:
            asked = self._clock.monotonic()
            desired = await self._control.desired(self._version, FOLLOW_S)
            if desired.version != self._version:
                self._version = desired.version
                await self._wanted(desired)
            else:  # a server that answers at once must not be asked in a tight loop
                await asyncio.sleep(max(0.0, 1.0 - (self._clock.monotonic() - asked)))
