"""Operations of time, workers, schedules and everything small."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from relit.errors import NotFound
from relit.events import Event
from relit.store.sql import ending, queue, rows
from relit.store.sql.outside import one_by_one
from relit.store.sql.tx import Tx, WholeOpFailed
from relit.store.values import (
    Firing,
    Footprint,
    Mailbox,
    NewRun,
    Reaped,
    Run,
    Schedule,
    Subscriber,
    Token,
    WorkerInfo,
)

DUE_AT_ONCE = 1000
RunRow = tuple[str, str, str | None, int, int, int, str | None, str | None, int]


@one_by_one
async def promote(tx: Tx, _: None) -> int | None:
    """Do all that is due; answers ms until the next."""
    woken = await tx.many("runs_due", [(tx.now, DUE_AT_ONCE)])
    if woken:
        tx.topics.add("ready")
    boxes = {row[2] for row in woken if row[2] is not None}
    boxes |= await _end_all(tx, "runs_expired", "discarded", "expired", event="run.missed")
    error = _time_limit_error()
    boxes |= await _end_all(tx, "runs_overdue", "failed", "timeout", error=error)
    boxes |= {row[1] for row in await tx.many("mailboxes_due", [(tx.now,)])}
    await queue.admit(tx, boxes)
    next_at = (await tx.many("next_due", [()]))[0][1]
    return None if next_at is None else max(0, next_at - tx.now)


async def _end_all(
    tx: Tx, name: str, state: str, reason: str, *, event: str = "", error: bytes | None = None
) -> set[str]:
    ids = [row[1] for row in await tx.many(name, [(tx.now, DUE_AT_ONCE)])]
    boxes: set[str] = set()
    for run in await ending.lock(tx, ids):
        boxes |= await ending.end(tx, run, state, reason, error, event)
    return boxes


def _time_limit_error() -> bytes:
    error = {"type": "RunTimeout", "message": "the run's time limit passed while it waited", "retry": False}
    return b"\x01" + msgspec.msgpack.encode(error)


@one_by_one
async def join(tx: Tx, args: tuple[WorkerInfo, int]) -> None:
    info, lease_ms = args
    until = tx.lease_now + lease_ms
    row = (info.id, info.host, info.pid, info.start, info.boot, info.namespace, " ".join(info.targets), tx.now, until)
    await tx.many("worker_add", [(*row, tx.lease_boot, int(info.steady))])
    await queue.add_events(
        tx, [queue.event(tx, "worker.joined", None, None, worker=info.id, pid=info.pid, host=info.host)]
    )
    tx.topics.add("workers")


@one_by_one
async def renew(tx: Tx, args: tuple[str, int]) -> bool:
    worker, lease_ms = args
    return bool(await tx.many("worker_renew", [(worker, tx.lease_now + lease_ms, tx.lease_boot)]))


@one_by_one
async def leave(tx: Tx, worker: str) -> None:
    """A worker ends in good order; whatever it still holds is given back."""
    held = await tx.many("runs_owned", [(worker,)])
    await tx.many("run_release", [(row[1], row[4]) for row in held])
    if await tx.many("worker_end", [(worker, "left")]):
        await queue.add_events(tx, [queue.event(tx, "worker.left", None, None, worker=worker)])
    tx.topics.update({"workers", "ready"} if held else {"workers"})


@one_by_one
async def reap(tx: Tx, args: tuple[str, bool, int]) -> Reaped | None:
    """Take the runs of a dead worker."""
    worker, proven, poison_after = args
    found = await tx.many("worker_lock", [(worker,)])
    if not found or found[0][1] != "live":
        return None
    _, _, until, boot, steady = found[0]
    if not proven and boot == tx.lease_boot and until > tx.lease_now:
        return None
    await tx.many("worker_end", [(worker, "dead")])
    owned: list[RunRow] = [row[1:] for row in await tx.many("runs_owned", [(worker,)])]
    boxes, poisoned = await _recover(tx, worker, proven, poison_after, owned, steady=bool(steady))
    await queue.add_events(
        tx, [queue.event(tx, "worker.died", None, None, worker=worker, proven=proven, runs=len(owned))]
    )
    await queue.admit(tx, boxes)
    tx.topics.update({"workers", "ready"})
    return Reaped(worker, len(owned), poisoned)


async def _recover(
    tx: Tx, worker: str, proven: bool, poison_after: int, owned: Sequence[RunRow], *, steady: bool
) -> tuple[set[str], list[str]]:
    boxes: set[str] = set()
    poisoned: list[str] = []
    for id_, agent, mailbox, _, crashes, crash_seq, request, parent, seq in owned:
        count = 1 if seq > crash_seq else crashes + 1
        if steady:  # whoever killed it, the run did not
            count, seq = crashes, crash_seq
        state, reason = _fate(request, count, poison_after)
        ended = tx.now if state == "cancelled" else None
        placed = int(state == "available")
        how = "death" if proven else "expiry"
        await tx.many("run_recover", [(id_, state, reason, placed, count, seq, how, ended)])
        events = [queue.event(tx, "run.recovered", agent, id_, worker=worker, proven=proven, crashes=count)]
        if state != "available":
            events.append(queue.event(tx, f"run.{state}", agent, id_, reason=reason))
            boxes |= {mailbox} if mailbox else set()
        if state == "cancelled":
            await tx.many("wait_clear", [(id_,)])
            boxes |= await ending.after_end(tx, id_, parent, state)
        if reason == "poison":
            poisoned.append(id_)
        await queue.add_events(tx, events)
        tx.topics.add(f"run:{id_}")
    return boxes, poisoned


def _fate(request: str | None, crashes: int, poison_after: int) -> tuple[str, str | None]:
    """What becomes of a run whose worker died: state and reason."""
    if request == "cancel":
        return "cancelled", "cancelled"
    if crashes >= poison_after:
        return "parked", "poison"
    if request == "pause":
        return "parked", "paused"
    return "available", None


@one_by_one
async def workers(tx: Tx, live: bool) -> list[WorkerInfo]:
    found = await tx.many("workers_all", [(int(live),)])
    return [_worker(tx, row[1:]) for row in found]


def _worker(tx: Tx, row: Sequence[object]) -> WorkerInfo:
    id_, host, pid, start, boot, namespace, targets, state, joined_at, until, lease_boot = row
    left = int(str(until)) - tx.lease_now if lease_boot == tx.lease_boot else 0
    return msgspec.convert(
        {
            "id": id_, "host": host, "pid": pid, "start": start, "boot": boot, "namespace": namespace,
            "targets": str(targets).split(), "state": state, "joined_at": joined_at, "lease_left_ms": left,
        },
        WorkerInfo,
    )  # fmt: skip


@one_by_one
async def expired_workers(tx: Tx, _: None) -> list[str]:
    return [row[1] for row in await tx.many("workers_expired", [(tx.lease_now, tx.lease_boot)])]


@one_by_one
async def requests(tx: Tx, worker: str) -> list[Run]:
    return [rows.run(row[1:]) for row in await tx.many("runs_requested", [(worker,)])]


@one_by_one
async def configure_mailbox(tx: Tx, box: Mailbox) -> None:
    row = (box.name, box.concurrency, box.key_concurrency, box.depth, box.rate, box.burst, int(box.paused))
    await tx.many("mailbox_put", [(*row, float(box.burst), tx.now)])
    await queue.add_events(tx, [queue.event(tx, "mailbox.changed", None, None, mailbox=box.name, what="configured")])
    await queue.admit(tx, [box.name])


@one_by_one
async def pause_mailbox(tx: Tx, args: tuple[str, bool]) -> None:
    name, paused = args
    if not await tx.many("mailbox_pause", [(name, int(paused))]):
        raise NotFound(f"there is no mailbox {name!r}", fix="relit mailbox ls")
    if paused:
        await tx.many("mailbox_unplace", [(name,)])
    what = "paused" if paused else "resumed"
    await queue.add_events(tx, [queue.event(tx, "mailbox.changed", None, None, mailbox=name, what=what)])
    await queue.admit(tx, [name])


def _no_schedule(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name!r}", fix="relit schedule ls")


@one_by_one
async def put_schedule(tx: Tx, s: Schedule) -> None:
    row = (s.name, s.agent, s.workflow, s.input, s.spec, int(s.paused), s.next_at, s.last_at)
    await tx.many("schedule_put", [row])
    await _schedule_changed(tx, s.name, "put", s.agent)


@one_by_one
async def remove_schedule(tx: Tx, name: str) -> None:
    if not await tx.many("schedule_drop", [(name,)]):
        raise _no_schedule(name)
    await _schedule_changed(tx, name, "removed")


@one_by_one
async def pause_schedule(tx: Tx, args: tuple[str, bool, int | None]) -> None:
    name, paused, next_at = args
    if not await tx.many("schedule_pause", [(name, int(paused), next_at)]):
        raise _no_schedule(name)
    await _schedule_changed(tx, name, "paused" if paused else "resumed")


async def _schedule_changed(tx: Tx, name: str, what: str, agent: str | None = None) -> None:
    await queue.add_events(tx, [queue.event(tx, "schedule.changed", agent, None, schedule=name, what=what)])
    tx.topics.add("timers")


FireArgs = tuple[str, int, int | None, Sequence[Firing], Sequence[NewRun], Sequence[str]]


@one_by_one
async def fire(tx: Tx, args: FireArgs) -> bool:
    """Move a schedule on with everything that belongs to it; false when somebody else did."""
    name, rev, next_at, firings, runs, cancel = args
    last = max((f.due_at for f in firings), default=None)
    if not await tx.many("schedule_move", [(name, rev, next_at, last)]):
        return False
    await tx.many("firing_add", [(f.schedule, f.due_at, f.outcome, f.run, f.reason, f.at or tx.now) for f in firings])
    await queue.add_events(tx, [_firing_event(tx, f) for f in firings])
    boxes: set[str] = set()
    for run in await ending.lock(tx, cancel):
        if not run.final:
            boxes |= await ending.cancel(tx, run, f"replaced by the next firing of {name}")
    if runs:
        for result in await queue.enqueue(tx, [runs]):
            if isinstance(result, Exception):
                raise WholeOpFailed(result)
    await queue.admit(tx, boxes)
    tx.topics.add("timers")
    return True


def _firing_event(tx: Tx, f: Firing) -> tuple[object, ...]:
    missed = f.outcome in ("missed", "skipped")
    name = "schedule.missed" if missed else "schedule.fired"
    return queue.event(tx, name, None, f.run, schedule=f.schedule, due=f.due_at, reason=f.reason)


@one_by_one
async def record(tx: Tx, events: Sequence[Event]) -> None:
    await queue.add_events(
        tx, [(e.at or tx.now, e.name, e.agent, e.run, msgspec.msgpack.encode(e.data)) for e in events]
    )


@one_by_one
async def put_footprints(tx: Tx, footprints: Sequence[Footprint]) -> None:
    await tx.many("footprint_put", [(f.what, f.peak, f.settled, f.cpu_s, f.seen) for f in footprints])


@one_by_one
async def put_token(tx: Tx, t: Token) -> None:
    await tx.many("token_put", [(t.name, t.hash, " ".join(t.scopes), t.created_at, t.last_used_at)])


@one_by_one
async def remove_token(tx: Tx, name: str) -> None:
    if not await tx.many("token_drop", [(name,)]):
        raise NotFound(f"there is no token {name!r}", fix="relit token ls")


@one_by_one
async def put_subscriber(tx: Tx, s: Subscriber) -> None:
    await tx.many("subscriber_put", [(s.name, s.url, " ".join(s.events), s.secret, s.cursor, s.failures, s.retry_at)])


@one_by_one
async def move_subscriber(tx: Tx, args: tuple[Subscriber, Subscriber]) -> bool:
    old, new = args
    was = (old.name, old.url, " ".join(old.events), old.secret, old.cursor, old.failures, old.retry_at)
    return bool(await tx.many("subscriber_move", [(*was, new.cursor, new.failures, new.retry_at)]))


@one_by_one
async def remove_subscriber(tx: Tx, name: str) -> None:
    if not await tx.many("subscriber_drop", [(name,)]):
        raise NotFound(f"there is no subscriber {name!r}", fix="relit config show")


FORGET_OLD = (
    "forget_events", "forget_firings", "forget_workers", "forget_incidents", "forget_alerts", "forget_answers",
    "forget_calls", "forget_tools",
)  # fmt: skip
FORGET_RUN = ("forget_steps", "forget_stream", "forget_signals", "forget_effects", "wait_clear", "forget_run")


@one_by_one
async def forget(tx: Tx, args: tuple[int, int]) -> int:
    """Retention: runs that ended before, with all that belongs to them, and incidents."""
    older_than_ms, limit = args
    before = tx.now - older_than_ms
    ids = [(row[1],) for row in await tx.many("runs_old", [(before, limit)])]
    if ids:
        for name in FORGET_RUN:
            await tx.many(name, ids)
    for name in FORGET_OLD:
        await tx.many(name, [(before,)])
    await tx.many("forget_dedups", [(tx.now,)])
    return len(ids)
