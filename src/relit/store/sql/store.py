"""The ``Store`` over a ``Database``: names operations, makes values of rows. The same for both dialects."""

# An operation's result type is known only to its caller here: mypy sees Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from relit.events import Event
from relit.store.base import Subscription
from relit.store.sql import incidents, journal, outside, queue, rewinding, rows, upkeep
from relit.store.sql.calls import SqlCalls
from relit.store.sql.catalog import SqlCatalog
from relit.store.sql.secrets import SqlSecrets
from relit.store.sql.tools import SqlTools
from relit.store.sql.tx import Database, Op, Operation
from relit.store.values import (
    Alert,
    Effect,
    Enqueued,
    Fence,
    Finish,
    Firing,
    Footprint,
    Incident,
    Journal,
    Mailbox,
    MailboxStats,
    NewRun,
    Reaped,
    Rewind,
    Run,
    RunState,
    Schedule,
    Signal,
    Since,
    Step,
    StreamItem,
    Subscriber,
    Token,
    Wait,
    WorkerInfo,
)

ALL_STEPS = 2**62
NO_TIMEOUTS: Mapping[str, int] = MappingProxyType({})


class Announcer(Protocol):
    """Tells processes that something happened (``relit.store.wakeups``)."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def announce(self, topics: Collection[str]) -> None: ...

    def subscribe(self, *topics: str) -> Subscription: ...


class SqlStore:
    """Every method as ``relit.store.base.Store`` says."""

    def __init__(self, database: Database, wakeups: Announcer) -> None:
        self._database = database
        self._wakeups = wakeups

    async def start(self) -> None:
        await self._database.start()
        await self._wakeups.start()

    async def stop(self) -> None:
        await self._database.stop()
        await self._wakeups.stop()

    @property
    def catalog(self) -> SqlCatalog:
        """The manifest of volumes, in the same database."""
        return SqlCatalog(self._database)

    @property
    def calls(self) -> SqlCalls:
        """Calls to models, in the same database."""
        return SqlCalls(self._database)

    @property
    def tools(self) -> SqlTools:
        """Calls to tools, in the same database."""
        return SqlTools(self._database)

    @property
    def secrets(self) -> SqlSecrets:
        """The vault's rows, in the same database."""
        return SqlSecrets(self._database)

    def subscribe(self, *topics: str) -> Subscription:
        return self._wakeups.subscribe(*topics)

    async def now_ms(self) -> int:
        return await self._database.now_ms()

    async def _write(self, operation: Operation, arg: Any) -> Any:
        return await self._database.write(Op(operation, arg))

    async def _read(self, name: str, *row: Any) -> list[tuple[Any, ...]]:
        return (await self._database.read((name, row)))[0]

    # --- queue -------------------------------------------------------------------------------------------------

    async def enqueue(self, runs: Sequence[NewRun]) -> list[Enqueued]:
        return await self._write(queue.enqueue, runs) if runs else []

    async def claim(
        self,
        worker: str,
        targets: Sequence[str],
        limit: int,
        suspects: int = 1,
        timeouts: Mapping[str, int] = NO_TIMEOUTS,
    ) -> list[Run]:
        return await self._write(queue.claim, (worker, targets, limit, suspects, timeouts))

    async def journal(self, run: str) -> Journal:
        steps, waits, effects, signals, children, streamed = await self._database.read(
            ("steps_of", (run, 0, ALL_STEPS)),
            ("waits_of", (run,)),
            ("effects_of", (run, ",open,in_doubt,kept,")),
            ("signals_of", (run,)),
            ("children_done", (run,)),
            ("stream_count", (run,)),
        )
        return Journal(
            steps=[rows.step(row) for row in steps],
            waits=[rows.wait(row) for row in waits],
            effects=[rows.effect(row) for row in effects],
            signals=[rows.signal(row) for row in signals],
            children={child.id: child for child in map(rows.run, children)},
            streamed=streamed[0][0],
        )

    async def arrivals(self, run: str) -> Journal:
        signals, children = await self._database.read(("signals_of", (run,)), ("children_done", (run,)))
        return Journal(
            signals=[rows.signal(row) for row in signals],
            children={child.id: child for child in map(rows.run, children)},
        )

    # --- a claimed run's writes ----------------------------------------------------------------------------------

    async def append(
        self,
        fence: Fence,
        steps: Sequence[Step],
        *,
        sends: Sequence[NewRun] = (),
        consume: Sequence[str] = (),
        adopts: str | None = None,
    ) -> None:
        await self._write(journal.append, (fence, steps, sends, consume, adopts))

    async def intend(self, fence: Fence, effect: Effect, *, adopts: str | None = None) -> None:
        await self._write(journal.intend, (fence, effect, adopts))

    async def doubt(self, fence: Fence, pos: str) -> None:
        await self._write(journal.doubt, (fence, pos))

    async def emit(self, fence: Fence, items: Sequence[StreamItem]) -> None:
        await self._write(journal.emit, (fence, items))

    async def suspend(self, fence: Fence, waits: Sequence[Wait], reason: str) -> bool:
        return await self._write(journal.suspend, (fence, waits, reason))

    async def finish(self, fence: Fence, finish: Finish) -> None:
        await self._write(journal.finish, (fence, finish))

    async def release(self, fences: Sequence[Fence]) -> None:
        await self._write(journal.release, fences)

    async def beat(self, fence: Fence, detail: bytes) -> None:
        await self._write(journal.beat, (fence, detail))

    # --- from outside ------------------------------------------------------------------------------------------

    async def signal(self, signal: Signal) -> bool:
        return await self._write(outside.signal, signal)

    async def cancel(self, run: str, reason: str) -> Run:
        return await self._write(outside.cancel, (run, reason))

    async def pause(self, run: str) -> Run:
        return await self._write(outside.pause, run)

    async def resume(self, run: str) -> Run:
        return await self._write(outside.resume, run)

    async def retry(self, run: str) -> Run:
        return await self._write(outside.retry, run)

    async def requeue(self, run: str) -> Run:
        return await self._write(outside.requeue, run)

    async def fork(self, run: str, seq: int | None, new_id: str, input: bytes | None = None) -> Run:
        return await self._write(outside.fork, (run, seq, new_id, input))

    async def resolve(self, run: str, pos: str, result: bytes | None) -> Run:
        return await self._write(outside.resolve, (run, pos, result))

    # --- time, workers -----------------------------------------------------------------------------------------

    async def promote(self) -> int | None:
        return await self._write(upkeep.promote, None)

    async def join(self, worker: WorkerInfo, lease_ms: int) -> None:
        await self._write(upkeep.join, (worker, lease_ms))

    async def renew(self, worker: str, lease_ms: int) -> bool:
        return await self._write(upkeep.renew, (worker, lease_ms))

    async def leave(self, worker: str) -> None:
        await self._write(upkeep.leave, worker)

    async def workers(self, live: bool = True) -> list[WorkerInfo]:
        return await self._write(upkeep.workers, live)

    async def reap(self, worker: str, proven: bool, poison_after: int) -> Reaped | None:
        return await self._write(upkeep.reap, (worker, proven, poison_after))

    async def expired_workers(self) -> list[str]:
        return await self._write(upkeep.expired_workers, None)

    async def requests(self, worker: str) -> list[Run]:
        return await self._write(upkeep.requests, worker)

    # --- mailboxes, schedules ------------------------------------------------------------------------------------

    async def configure_mailbox(self, mailbox: Mailbox) -> None:
        await self._write(upkeep.configure_mailbox, mailbox)

    async def mailboxes(self) -> list[MailboxStats]:
        return [rows.mailbox_stats(row) for row in await self._read("mailbox_stats")]

    async def pause_mailbox(self, name: str, paused: bool) -> None:
        await self._write(upkeep.pause_mailbox, (name, paused))

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._write(upkeep.put_schedule, schedule)

    async def remove_schedule(self, name: str) -> None:
        await self._write(upkeep.remove_schedule, name)

    async def schedules(self) -> list[Schedule]:
        return [rows.schedule(row) for row in await self._read("schedules_all")]

    async def fire(
        self,
        name: str,
        rev: int,
        next_at: int | None,
        firings: Sequence[Firing],
        runs: Sequence[NewRun],
        cancel: Sequence[str] = (),
    ) -> bool:
        return await self._write(upkeep.fire, (name, rev, next_at, firings, runs, cancel))

    async def pause_schedule(self, name: str, paused: bool, next_at: int | None) -> None:
        await self._write(upkeep.pause_schedule, (name, paused, next_at))

    async def firings(self, name: str, limit: int = 50) -> list[Firing]:
        return [rows.firing(row) for row in await self._read("firings_of", name, limit)]

    # --- reading -----------------------------------------------------------------------------------------------

    async def run(self, run: str) -> Run:
        found = await self._read("run_get", run)
        if not found:
            raise outside.no_run(run)
        return rows.run(found[0])

    async def runs(
        self,
        *,
        agent: str | None = None,
        workflow: str | None = None,
        states: Sequence[RunState] = (),
        schedule: str | None = None,
        parent: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Run]:
        wanted = f",{','.join(states)}," if states else ""
        if parent is not None:
            found = await self._read("runs_of_parent", before, wanted, parent, workflow, limit)
        elif schedule is not None:
            found = await self._read("runs_of_schedule", before, wanted, schedule, workflow, limit)
        elif agent is not None:
            found = await self._read("runs_of_agent", before, wanted, agent, workflow, limit)
        else:
            found = await self._read("runs_all", before, wanted, None, workflow, limit)
        return [rows.run(row) for row in found]

    async def find_runs(self, prefix: str, limit: int = 5) -> list[str]:
        return [row[0] for row in await self._read("runs_like", *_like(prefix), limit)]

    async def steps(self, run: str, after: int = 0, limit: int = 1000) -> list[Step]:
        return [rows.step(row) for row in await self._read("steps_of", run, after, limit)]

    async def last_steps(self, run: str, limit: int = 1) -> list[Step]:
        return [rows.step(row) for row in await self._read("steps_last", run, limit)][::-1]

    async def stream(self, run: str, after: int = -1, limit: int = 1000) -> list[StreamItem]:
        return [rows.stream_item(row) for row in await self._read("stream_of", run, after, limit)]

    async def waits(self, run: str) -> list[Wait]:
        return [rows.wait(row) for row in await self._read("waits_of", run)]

    async def effects(
        self, *, run: str | None = None, agent: str | None = None, states: Sequence[str] = ("open", "in_doubt")
    ) -> list[Effect]:
        wanted = f",{','.join(states)},"
        if run is not None:
            found = await self._read("effects_of", run, wanted)
        elif agent is not None:
            found = await self._read("effects_of_agent", agent, wanted)
        else:
            found = await self._read("effects_unsettled", wanted)
        return [rows.effect(row) for row in found]

    async def counts(self) -> dict[tuple[str, str], int]:
        return {(target, state): count for target, state, count in await self._read("run_counts")}

    async def to_do(self) -> dict[str, tuple[int, int]]:
        return {target: (ready, running) for target, ready, running in await self._read("targets_to_do")}

    # --- going back --------------------------------------------------------------------------------------------

    async def since(self, agent: str, at_ms: int, runs: Mapping[str, int]) -> Since:
        found, effects = await self._database.read(("runs_since", (agent, at_ms)), ("effects_since", (agent, at_ms)))
        changed = [rows.run(row) for row in found]
        counts = await self._database.read(
            *(("steps_beyond", (run.id, rewinding.known_seq(run, runs, at_ms), at_ms)) for run in changed)
        )
        steps = {run.id: count[0][0] for run, count in zip(changed, counts, strict=True)}
        return Since(runs=changed, effects=[rows.effect(row) for row in effects], steps=steps)

    async def rewind(self, wanted: Rewind) -> list[str]:
        return await self._write(rewinding.rewind, wanted)

    async def recovered(self) -> int:
        return await self._write(rewinding.recovered, None)

    # --- events, tokens, webhooks --------------------------------------------------------------------------------

    async def record(self, events: Sequence[Event]) -> None:
        await self._write(upkeep.record, events)

    async def events(self, after: str = "", limit: int = 500, names: Sequence[str] = ()) -> list[Event]:
        wanted = f",{','.join(names)}," if names else ""
        return [rows.event(row) for row in await self._read("events_after", after or "0", limit, wanted)]

    async def last_event(self) -> str:
        return str((await self._read("event_last"))[0][0])

    async def put_token(self, token: Token) -> None:
        await self._write(upkeep.put_token, token)

    async def tokens(self) -> list[Token]:
        return [rows.token(row) for row in await self._read("tokens_all")]

    async def remove_token(self, name: str) -> None:
        await self._write(upkeep.remove_token, name)

    async def put_subscriber(self, subscriber: Subscriber) -> None:
        await self._write(upkeep.put_subscriber, subscriber)

    async def move_subscriber(self, before: Subscriber, after: Subscriber) -> bool:
        return await self._write(upkeep.move_subscriber, (before, after))

    async def subscribers(self) -> list[Subscriber]:
        return [rows.subscriber(row) for row in await self._read("subscribers_all")]

    async def remove_subscriber(self, name: str) -> None:
        await self._write(upkeep.remove_subscriber, name)

    async def put_footprints(self, footprints: Sequence[Footprint]) -> None:
        await self._write(upkeep.put_footprints, footprints)

    async def footprints(self) -> list[Footprint]:
        return [rows.footprint(row) for row in await self._read("footprints_all")]

    # --- incidents, alerts -------------------------------------------------------------------------------------

    async def put_incident(self, incident: Incident) -> bool:
        return await self._write(incidents.put, incident)

    async def incident(self, id: str) -> Incident:
        found = await self._read("incident_get", id)
        if not found:
            raise incidents.no_incident(id)
        return rows.incident(found[0])

    async def incidents(
        self, *, agent: str | None = None, open_only: bool = False, limit: int = 50, before: str | None = None
    ) -> list[Incident]:
        if agent is not None:
            found = await self._read("incidents_of_agent", before, limit, agent, int(open_only))
        else:
            found = await self._read("incidents_open" if open_only else "incidents_all", before, limit)
        return [rows.trouble(row) for row in found]

    async def find_incidents(self, prefix: str, limit: int = 5) -> list[str]:
        return [row[0] for row in await self._read("incidents_like", *_like(prefix), limit)]

    async def put_alerts(self, alerts: Sequence[Alert]) -> None:
        await self._write(incidents.put_alerts, alerts)

    async def move_alert(self, before: Alert, after: Alert) -> bool:
        return await self._write(incidents.move_alert, (before, after))

    async def alerts(self) -> list[Alert]:
        return [rows.alert(row) for row in await self._read("alerts_live")]

    # --- upkeep ------------------------------------------------------------------------------------------------

    async def forget(self, older_than_ms: int, limit: int = 1000) -> int:
        return await self._write(upkeep.forget, (older_than_ms, limit))

    async def check(self) -> list[str]:
        faults = [str(row[0]) for row in await self._read("faults")]
        return await self._database.check() + faults


def _like(prefix: str) -> tuple[str, str, str]:
    """The lowest and the highest id that begin so, and a pattern of those that end so."""
    plain = "".join(letter for letter in prefix.lower() if letter.isalnum())
    return plain, plain + "~", f"%{plain}"
