"""Tells people of incidents, as ``relit.durable.alerting`` says. Any number of processes may run one.

What is told is on disk before it is sent: an alert waits in the store until its channel took it. Each channel has a
line of its own, so that one that fails holds up no other. While a line sends, its row is held for as long as that may
take: a process that dies then is taken over from, and the alert is sent again under the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import Random

import msgspec

from relit.documents.incidents import whole
from relit.durable import alerting
from relit.durable.alerting import Policy
from relit.durable.channels import TIMEOUT_S, Channel, Told
from relit.durable.notices import Notice
from relit.errors import NotFound, StoreFull, StoreUnavailable
from relit.events import Event
from relit.lib import backoff
from relit.lib.ids import system_random
from relit.lib.service import OnFailure, Tasks, reporting
from relit.store.base import Store
from relit.store.values import Alert, Incident

log = logging.getLogger("relit.alerts")

_LONGEST_S = 30.0  # the safety net for a wake-up that was lost
_BACK_OFF_S = 1.0
_SPARE_MS = 15_000  # for the store, on top of the longest sending
_PAGE = 1000


class Alerts:
    """``channels`` by any order; their names must differ. ``on_failure`` is told of an unforeseen error that ended one
    of its loops. The waits after failures grow from ``first_s`` to ``most_s``."""

    def __init__(
        self,
        store: Store,
        channels: Sequence[Channel],
        policy: Policy,
        *,
        chance: Random | None = None,
        on_failure: OnFailure | None = None,
        first_s: float = 2.0,
        most_s: float = 600.0,
    ) -> None:
        self._store = store
        self._channels = channels
        self._policy = policy
        self._chance = chance or system_random()
        self._first_s = first_s
        self._most_s = most_s
        self._tasks = Tasks(reporting(log, "alerts", on_failure))

    async def start(self) -> None:
        """Begin, if there is anybody to tell."""
        if not self._channels:
            return
        self._tasks.spawn(self._decide(), "relit-alerts")
        for channel in self._channels:
            line = _Line(self._store, channel, self._pause_ms)
            self._tasks.spawn(line.run(), f"relit-alerts-{channel.name}")

    async def stop(self) -> None:
        """End; safe twice. What was being sent is sent again later."""
        await self._tasks.stop()

    def _pause_ms(self, tries: int, told: Told) -> int:
        pause = backoff.delay(tries, first=self._first_s, factor=2, most=self._most_s, jitter=0.3, chance=self._chance)
        return round(1000 * max(pause, told.retry_after or 0))

    async def _decide(self) -> None:
        subscription = self._store.subscribe("incidents", "alerts")
        try:
            while True:
                await subscription.wait(await self._decide_once())
        finally:
            subscription.close()

    async def _decide_once(self) -> float:
        """Make the alerts that are due; answers seconds until there may be more."""
        try:
            names = [channel.name for channel in self._channels]
            alerts = [each for each in await self._store.alerts() if each.channel in names]
            incidents = await _incidents(self._store, alerts)
            now = await self._store.now_ms()
            plan = alerting.plan(incidents, alerts, names, self._policy, now)
            if plan.make:
                await self._store.put_alerts(plan.make)
            for before, after in plan.change:
                await self._store.move_alert(before, after)
        except (StoreUnavailable, StoreFull):
            return _BACK_OFF_S
        return _LONGEST_S if plan.look_at is None else min(_LONGEST_S, max(0, plan.look_at - now) / 1000)


class _Line:
    """One channel's alerts, one after another."""

    def __init__(self, store: Store, channel: Channel, pause_ms: Callable[[int, Told], int]) -> None:
        self._store = store
        self._channel = channel
        self._pause_ms = pause_ms
        self._failures = 0  # in a row
        self._rests_until = 0.0  # loop time: a channel that fails is not asked more often because there is more to tell
        self._unnoted: tuple[Alert, Alert] | None = None  # taken, and the store does not know it yet

    async def run(self) -> None:
        """For ever."""
        subscription = self._store.subscribe("alerts")
        try:
            while True:
                await subscription.wait(await self._once())
        finally:
            subscription.close()

    async def _once(self) -> float:
        """Send what is due; answers seconds until there may be more."""
        if (left := self._rests_until - asyncio.get_running_loop().time()) > 0:
            return left
        try:
            await self._note()
            now = await self._store.now_ms()
            alert, at = alerting.due(await self._store.alerts(), self._channel.name, now)
            if alert is not None:
                return await self._send(alert, now)
        except (StoreUnavailable, StoreFull):
            return _BACK_OFF_S
        return _LONGEST_S if at is None else min(_LONGEST_S, (at - now) / 1000)

    async def _send(self, alert: Alert, now: int) -> float:
        incidents = await _known(self._store, alert.members)
        still = [each for each in incidents if each.open]
        if not incidents or (alert.kind != "resolved" and not still):
            return _LONGEST_S  # it is over: the plan takes the alert back
        severity = alerting.worst(each.severity for each in still or incidents)
        held = msgspec.structs.replace(
            alert,
            state="sending",
            severity=severity,
            tries=alert.tries + 1,
            retry_at=now + round(TIMEOUT_S * 1000) + _SPARE_MS,
        )
        if not await self._store.move_alert(alert, held):
            return 0
        told = await self._told(held, incidents, now)
        return await (self._taken(held) if told.verdict == "taken" else self._failed(held, told))

    async def _told(self, held: Alert, incidents: Sequence[Incident], now: int) -> Told:
        try:
            return await self._channel.tell(
                Notice(
                    id=held.id,
                    key=held.incident,
                    kind=held.kind,
                    severity=held.severity,
                    incidents=[whole(each) for each in incidents],
                    at=now,
                )
            )
        # A fault of ours in one alert must neither end the server nor hold up the next one.
        except Exception as error:
            log.exception("an alert to %s could not be told", self._channel.name)
            return Told("unknown", f"{type(error).__name__}: {error}")

    async def _taken(self, held: Alert) -> float:
        self._failures = 0
        sent = msgspec.structs.replace(
            held,
            state="sent",
            sent_at=await self._store.now_ms(),
            retry_at=None,
            why="",
            closed=held.kind == "resolved",
        )
        self._unnoted = held, sent
        await self._note()
        await self._record("alert.sent", held)
        return 0

    async def _note(self) -> None:
        """Write down that an alert was taken, before anything else is sent: else it would be sent again."""
        if self._unnoted is not None:
            await self._store.move_alert(*self._unnoted)
            self._unnoted = None

    async def _failed(self, held: Alert, told: Told) -> float:
        self._failures += 1
        pause_s = self._pause_ms(self._failures, told) / 1000
        self._rests_until = asyncio.get_running_loop().time() + pause_s
        log.warning("%s did not take an alert (%s), try %d", self._channel.name, told.why, held.tries)
        later = msgspec.structs.replace(
            held,
            state="sending" if told.verdict == "unknown" else "waiting",
            retry_at=await self._store.now_ms() + self._pause_ms(held.tries, told),
            why=told.why,
        )
        await self._store.move_alert(held, later)
        if held.tries == 1:
            await self._record("alert.failed", held, why=told.why)
        return pause_s

    async def _record(self, name: str, alert: Alert, **more: str) -> None:
        data = {"channel": alert.channel, "kind": alert.kind, "incidents": alert.members, **more}
        await self._store.record([Event("", 0, name, data=data)])


async def _incidents(store: Store, alerts: Sequence[Alert]) -> list[Incident]:
    """All that are open, and all that were told of and are not closed."""
    found: dict[str, Incident] = {}
    page = await store.incidents(open_only=True, limit=_PAGE)
    while page:
        found |= {each.id: each for each in page}
        page = await store.incidents(open_only=True, limit=_PAGE, before=page[-1].id) if len(page) == _PAGE else []
    missing = {id for alert in alerts for id in alert.members} - found.keys()
    return [*found.values(), *await _known(store, sorted(missing))]


async def _known(store: Store, ids: Sequence[str]) -> list[Incident]:
    """Those that retention has not taken."""
    found = []
    for id in ids:
        try:
            found.append(await store.incident(id))
        except NotFound:
            continue
    return found
