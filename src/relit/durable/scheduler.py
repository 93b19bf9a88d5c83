"""Makes runs when schedules are due. Any number of processes may run one: each firing is one conditional commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from relit.durable import inputs, schedule
from relit.durable.definitions import MESSAGE
from relit.durable.engine import Engine
from relit.durable.schedule import Decision, Spec
from relit.durable.targets import Target, new_run, split
from relit.errors import ConfigError, Conflict, MailboxFull, NotFound, StoreFull, StoreUnavailable
from relit.lib import crashpoints
from relit.lib.clock import EARLIEST_PLAUSIBLE_MS, SYSTEM_CLOCK, Clock, iso
from relit.lib.service import OnFailure, Tasks, reporting
from relit.store.values import Firing, NewRun, RunState, Schedule

log = logging.getLogger("relit.durable")

UNFINISHED: tuple[RunState, ...] = ("available", "scheduled", "running", "waiting", "parked")

_LONGEST_S = 30.0
_BACK_OFF_S = 1.0
_CALM_S = 0.2
_AT_ONCE = 100
_TRIES = 20


class Scheduler:
    """Schedules by name, and the service that fires them. The methods work without ``start``.

    ``on_failure`` is told of an unforeseen error that ended its loop: end the process.
    """

    def __init__(self, engine: Engine, clock: Clock = SYSTEM_CLOCK, on_failure: OnFailure | None = None) -> None:
        self._engine = engine
        self._store = engine.store
        self._clock = clock
        self._tasks = Tasks(reporting(log, "the scheduler", on_failure))

    async def start(self) -> None:
        """Begin to fire."""
        self._tasks.spawn(self._run(), "relit-schedules")

    async def stop(self) -> None:
        """End; safe twice."""
        await self._tasks.stop()

    # --- what people do ----------------------------------------------------------------------------------------------

    async def add(
        self, name: str, target: Target, spec: Spec, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Schedule:
        """Add or change a schedule of a workflow, or of messages to an agent (``args``: the message).

        Adding the same one again changes nothing, so that a restart neither moves it nor forgets what it missed. A
        changed one first settles what was due until now. Raises ``ConfigError``.
        """
        schedule.check(spec)
        data = await inputs.encode(self._engine.payloads, args, dict(kwargs or {}))
        agent, workflow = split(target)
        before = await self._find(name)
        new = Schedule(name=name, agent=agent, workflow=workflow, input=data, spec=msgspec.json.encode(spec))
        if before is not None and _same(before, new):
            return before
        now = await self._store.now_ms()
        if before is None:
            next_at = schedule.next_after(spec, name, now)
        else:
            next_at = await self._settled(before, spec, now)
        await self._store.put_schedule(msgspec.structs.replace(new, next_at=next_at))
        return await self.get(name)

    async def get(self, name: str) -> Schedule:
        """Raises ``NotFound``."""
        found = await self._find(name)
        if found is None:
            raise NotFound(f"there is no schedule {name!r}", fix="relit schedule ls")
        return found

    async def pause(self, name: str) -> Schedule:
        """Fire no more until ``resume``. What is due meanwhile does not count as missed."""
        row = await self.get(name)
        if not row.paused:
            await self._store.pause_schedule(name, True, None)
        return await self.get(name)

    async def resume(self, name: str) -> Schedule:
        """Fire again, beginning with the next moment from now."""
        row = await self.get(name)
        if row.paused:
            next_at = schedule.next_after(schedule.parse(row.spec), name, await self._store.now_ms())
            await self._store.pause_schedule(name, False, next_at)
        return await self.get(name)

    async def trigger(self, name: str) -> str:
        """Make a run now, whatever the spec says about overlaps; answers its id. Raises ``MailboxFull``."""
        run = self._engine.ids()
        for _ in range(_TRIES):
            row = await self.get(name)
            now = await self._store.now_ms()
            firing = Firing(schedule=name, due_at=now, outcome="fired", run=run, reason="triggered by hand")
            if await self._store.fire(name, row.rev, row.next_at, [firing], [_run(row, firing, queue=False)]):
                return run
        raise Conflict(f"schedule {name!r} could not be triggered", why="it changes all the time", fix="try again")

    async def remove(self, name: str) -> None:
        """Delete a schedule; its runs go on. Raises ``NotFound``."""
        await self._store.remove_schedule(name)

    # --- what time does ----------------------------------------------------------------------------------------------

    async def tick(self) -> int | None:
        """Fire all that is due; answers ms until the next moment."""
        now = await self._store.now_ms()
        if now < EARLIEST_PLAUSIBLE_MS:
            log.warning("no schedule fires: the clock says %s, it was never set", iso(now))
            return None
        rows = [row for row in await self._store.schedules() if not row.paused]
        following: list[int] = []
        for start in range(0, len(rows), _AT_ONCE):  # at once, so that their commits are shared
            part = rows[start : start + _AT_ONCE]
            async with asyncio.TaskGroup() as group:
                moves = [group.create_task(self._move(row, now)) for row in part]
            following += [at for move in moves if (at := move.result()) is not None]
        return max(0, min(following) - now) if following else None

    async def _run(self) -> None:
        subscription = self._store.subscribe("timers")
        try:
            while True:
                # The topic covers every timer of every run: a busy store would have us read all schedules all the time.
                wait = await self._tick()
                await asyncio.sleep(min(wait, _CALM_S))
                await subscription.wait(max(0.0, wait - _CALM_S))
        finally:
            subscription.close()

    async def _tick(self) -> float:
        """Seconds until there is more to do. Short at most: a clock may be set while we sleep."""
        wait = _BACK_OFF_S
        try:
            left_ms = await self.tick()
            wait = _LONGEST_S if left_ms is None else min(_LONGEST_S, left_ms / 1000)
        except* (StoreUnavailable, StoreFull):
            pass  # nothing was fired; the next look comes soon
        return wait

    async def _move(self, row: Schedule, now: int) -> int | None:
        """Deal with one schedule; answers its next moment."""
        try:
            spec = schedule.parse(row.spec)
        except ConfigError as error:
            log.error("schedule %s does not fire: %s", row.name, error.why)
            return None
        if row.next_at is not None and now < row.next_at <= now + schedule.REWIND_MS:
            return row.next_at
        active = await self._active(row, now)
        decision = schedule.decide(spec, row.name, row.next_at, now, active)
        if decision.firings or decision.next_at != row.next_at:
            await self._fire(row, spec, decision)
        return decision.next_at

    async def _active(self, row: Schedule, now: int) -> list[str]:
        if row.next_at is None or row.next_at > now:
            return []
        runs = await self._store.runs(schedule=row.name, states=UNFINISHED, limit=_AT_ONCE)
        return [run.id for run in reversed(runs)]

    async def _fire(self, row: Schedule, spec: Spec, decision: Decision) -> bool:
        queue = spec.overlap == "queue"
        runs = [_run(row, firing, queue=queue) for firing in decision.firings if firing.run is not None]
        crashpoints.point("schedule.before")
        try:
            moved = await self._store.fire(row.name, row.rev, decision.next_at, decision.firings, runs, decision.cancel)
        except MailboxFull as error:
            refused = [_refused(firing, error) for firing in decision.firings]
            moved = await self._store.fire(row.name, row.rev, decision.next_at, refused, [])
        crashpoints.point("schedule.after")
        return moved

    async def _settled(self, before: Schedule, spec: Spec, now: int) -> int | None:
        """Do what ``before`` still had to do; the first moment of ``spec``, which takes its place."""
        if before.paused:
            return None
        if schedule.parse(before.spec) == spec:
            return before.next_at  # another target or input: the moments stay
        await self._move(before, now)
        return schedule.next_after(spec, before.name, now)

    async def _find(self, name: str) -> Schedule | None:
        return next((row for row in await self._store.schedules() if row.name == name), None)


def _same(before: Schedule, new: Schedule) -> bool:
    kept = {"paused": before.paused, "next_at": before.next_at, "last_at": before.last_at, "rev": before.rev}
    return msgspec.structs.replace(new, **kept) == before


def _run(row: Schedule, firing: Firing, *, queue: bool) -> NewRun:
    assert firing.run is not None
    # A message waits in its agent's mailbox; a workflow that is to wait for its predecessor gets a mailbox of its own.
    mailbox = f"schedule:{row.name}" if queue and row.workflow != MESSAGE else None
    target = f"{row.agent}/{row.workflow}"
    return new_run(target, row.input, id=firing.run, mailbox=mailbox, schedule=row.name)


def _refused(firing: Firing, error: MailboxFull) -> Firing:
    if firing.run is None:
        return firing
    return Firing(schedule=firing.schedule, due_at=firing.due_at, outcome="skipped", reason=error.what)
