"""Outgoing webhooks: events to those who subscribed, in order, at least once.

Each subscriber has a line of its own: one post at a time, the next event only when the last one was taken. What was
taken is on disk as the subscriber's cursor. A post whose answer was lost is sent again under the same ``webhook-id``
(the event's id), which tells the receiver that it is the same.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from relit.errors import ConfigError, NotFound, StoreFull, StoreUnavailable
from relit.events import Event
from relit.lib import backoff
from relit.lib.clock import SYSTEM_CLOCK, Clock, iso
from relit.lib.ids import system_random
from relit.lib.service import Tasks
from relit.store.base import Store, Subscription
from relit.store.values import Subscriber

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("relit.deliveries")

Sign = Callable[[str, str, int, bytes], dict[str, str]]
"""Headers that sign a post: secret, id, seconds since 1970, body (``relit.api.webhooks.sign``)."""

_LOOK_S = 1.0
_LONGEST_S = 30.0
_SPARE_S = 15.0  # for the store, on top of the longest post
_PAGE = 200
_SKIPPED_MOST = 1000
_READ_MOST = 64 * 1024
_RETRY_AFTER_MOST = 3600


class Answer(msgspec.Struct, frozen=True):
    """What came back from a receiver: no status when it could not be reached."""

    status: int | None
    retry_after: int | None = None
    why: str = ""


Verdict = Literal["taken", "gone", "again"]


def judge(answer: Answer) -> Verdict:
    """Whether a post was taken, is to be sent again, or its receiver wants no more of them (410)."""
    if answer.status is not None and 200 <= answer.status < 300:
        return "taken"
    return "gone" if answer.status == 410 else "again"


def wanted(subscriber: Subscriber, name: str) -> bool:
    """Whether a subscriber is told of events called ``name``. No patterns: all."""
    return not subscriber.events or any(fnmatch.fnmatchcase(name, pattern) for pattern in subscriber.events)


def body_of(event: Event) -> bytes:
    """An event as it is posted."""
    content = {
        "type": event.name,
        "timestamp": iso(event.at),
        "id": event.id,
        "agent": event.agent,
        "run": event.run,
        "data": event.data,
    }
    return msgspec.json.encode(content)


class Deliveries:
    """Posts events to the store's subscribers. Any number of processes may run one.

    ``secret`` opens a subscriber's secret. The waits after failures grow from ``first_s`` to ``most_s``.
    """

    def __init__(
        self,
        store: Store,
        sign: Sign,
        *,
        secret: Callable[[Subscriber], str] = lambda subscriber: subscriber.secret,
        clock: Clock = SYSTEM_CLOCK,
        chance: Random | None = None,
        timeout_s: float = 15.0,
        first_s: float = 2.0,
        most_s: float = 3600.0,
    ) -> None:
        self._store = store
        self._sign = sign
        self._secret = secret
        self._clock = clock
        self._chance = chance or system_random()
        self._timeout_s = timeout_s
        self._lease_ms = round((timeout_s + _SPARE_S) * 1000)
        self._first_s = first_s
        self._most_s = most_s
        self._tasks = Tasks(lambda error: log.error("a webhook's line failed and begins again", exc_info=error))
        self._lines: dict[str, tuple[_Line, asyncio.Task[Any]]] = {}
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Begin to post."""
        import httpx  # slow to import, and many processes that know this module post nothing

        self._client = httpx.AsyncClient(timeout=self._timeout_s, follow_redirects=False)
        self._tasks.spawn(self._supervise(), "relit-deliveries")

    async def stop(self) -> None:
        """End; safe twice. A post in flight is sent again later."""
        await self._tasks.stop()
        self._lines.clear()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _supervise(self) -> None:
        while True:
            try:
                self._match(await self._store.subscribers())
            except (StoreUnavailable, StoreFull):
                pass  # the next look comes soon
            await asyncio.sleep(_LOOK_S)

    def _match(self, rows: list[Subscriber]) -> None:
        """One line for each subscriber, with its newest definition."""
        present = {row.name: row for row in rows}
        for name, (line, task) in list(self._lines.items()):
            row = present.get(name)
            if row is None or task.done() or not line.serves(row):
                task.cancel()
                del self._lines[name]
        for name in present.keys() - self._lines.keys():
            line = _Line(self._store, present[name], self._post, self._pause_ms, self._lease_ms)
            self._lines[name] = line, self._tasks.spawn(line.run(), f"relit-delivery-{name}")

    def _pause_ms(self, failures: int, answer: Answer) -> int:
        pause = backoff.delay(
            failures, first=self._first_s, factor=2, most=self._most_s, jitter=0.3, chance=self._chance
        )
        return round(1000 * max(pause, min(answer.retry_after or 0, _RETRY_AFTER_MOST)))

    async def _post(self, subscriber: Subscriber, event: Event) -> Answer:
        import httpx

        assert self._client is not None, "lines live between start and stop"
        body = body_of(event)
        try:
            headers = self._sign(self._secret(subscriber), event.id, self._clock.now_ms() // 1000, body)
            headers |= {"content-type": "application/json", "user-agent": "relit"}
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", subscriber.url, content=body, headers=headers) as response,
            ):
                await _drain(response)
                return Answer(response.status_code, _seconds(response.headers.get("retry-after")))
        except ConfigError as error:
            return Answer(None, None, error.why)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            return Answer(None, None, f"{type(error).__name__}: {error}")


class _Line:
    """One subscriber's events, one after another.

    While it posts, the row's ``retry_at`` lies in the future and is moved along, so that other processes leave the
    subscriber alone; when this one dies, they take over from there.
    """

    def __init__(
        self,
        store: Store,
        row: Subscriber,
        post: Callable[[Subscriber, Event], Awaitable[Answer]],
        pause_ms: Callable[[int, Answer], int],
        lease_ms: int,
    ) -> None:
        self._store = store
        self._row = row
        self._post = post
        self._pause_ms = pause_ms
        self._lease_ms = lease_ms
        self._position = row.cursor
        self._skipped = 0
        self._holding = False
        self._over = False

    def serves(self, row: Subscriber) -> bool:
        """Whether this line still does what the row says."""
        return _definition(row) == _definition(self._row)

    async def run(self) -> None:
        """Until the subscriber is removed, or changed."""
        subscription = self._store.subscribe("events")
        try:
            while await self._step(subscription):
                pass
        finally:
            subscription.close()
            await self._let_go()

    async def _step(self, subscription: Subscription) -> bool:
        """Do what can be done now, or wait; false when the line is over."""
        try:
            if not await self._look():
                return False
            if (left := await self._left_s()) > 0:
                await asyncio.sleep(min(_LOOK_S, left))  # it may be allowed earlier
            elif not await self._round():
                await subscription.wait(_LONGEST_S)
        except (StoreUnavailable, StoreFull):
            await asyncio.sleep(_LOOK_S)
        return True

    async def _let_go(self) -> None:
        try:
            if self._holding:
                await self._move(retry_at=None)
        except (StoreUnavailable, StoreFull):
            pass  # the others wait until what we said runs out

    async def _look(self) -> bool:
        """Read the row again; false when it is no longer ours to serve."""
        found = [row for row in await self._store.subscribers() if row.name == self._row.name]
        if self._over or not found or not self.serves(found[0]):
            return False
        if found[0].cursor != self._row.cursor:  # another process went on
            self._position = found[0].cursor
        self._row = found[0]
        return True

    async def _left_s(self) -> float:
        """Seconds until the next try, or until whoever posts now must have said something."""
        return 0 if self._row.retry_at is None else (self._row.retry_at - await self._store.now_ms()) / 1000

    async def _round(self) -> bool:
        """Post what is new; false when there is nothing to look at now."""
        events = await self._store.events(self._position, _PAGE)
        chosen = [event for event in events if wanted(self._row, event.name)]
        if chosen and await self._hold():
            await self._deliver(chosen)
            return True
        if events and not chosen:
            self._position = events[-1].id
            self._skipped += len(events)
            if self._skipped >= _SKIPPED_MOST:
                await self._move(cursor=self._position)
        return bool(events)

    async def _hold(self) -> bool:
        self._holding = await self._move(retry_at=await self._store.now_ms() + self._lease_ms)
        return self._holding

    async def _deliver(self, events: list[Event]) -> None:
        """Post until one is not taken."""
        for event in events:
            answer = await self._post(self._row, event)
            verdict = judge(answer)
            if verdict == "gone":
                return await self._remove()
            now = await self._store.now_ms()
            if verdict == "again":
                return await self._fail(event, answer, now)
            until = None if event is events[-1] else now + self._lease_ms
            if not await self._move(cursor=event.id, failures=0, retry_at=until):
                return None
            self._position = event.id
        self._holding = False
        return None

    async def _fail(self, event: Event, answer: Answer, now: int) -> None:
        failures = self._row.failures + 1
        why = answer.status or answer.why
        log.warning("webhook %s: %s was not taken (%s), try %d", self._row.name, event.name, why, failures)
        await self._move(failures=failures, retry_at=now + self._pause_ms(failures, answer))
        self._holding = False

    async def _move(self, **changes: Any) -> bool:
        """Write how far we are; false when the row is not as we knew it."""
        changed = msgspec.structs.replace(self._row, **changes)
        moved = await self._store.move_subscriber(self._row, changed)
        if moved:
            self._row = changed
            self._skipped = 0
        else:
            self._holding = False
        return moved

    async def _remove(self) -> None:
        self._over = True
        self._holding = False
        try:
            await self._store.remove_subscriber(self._row.name)
        except NotFound:
            return  # somebody else did
        data = {"subscriber": self._row.name, "reason": "its receiver answered 410 Gone"}
        await self._store.record([Event(id="", at=0, name="subscriber.removed", data=data)])


def _definition(row: Subscriber) -> tuple[object, ...]:
    return row.url, row.events, row.secret


async def _drain(response: httpx.Response) -> None:
    """Read a short answer, so that its connection can be used again; a long one is not worth it."""
    read = 0
    async for piece in response.aiter_raw():
        read += len(piece)
        if read > _READ_MOST:
            return


def _seconds(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None
