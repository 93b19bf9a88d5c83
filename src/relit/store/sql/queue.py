"""Operations of the queue: make runs, admit them to their mailbox's places, claim them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from relit.errors import Fenced, MailboxFull
from relit.store import gate
from relit.store.sql import rows
from relit.store.sql.tx import Row, Tx
from relit.store.values import Enqueued, NewRun, Run

AGEING_MS = 6_000  # a point of priority is worth this much waiting: 100 points are overtaken after ten minutes

_encode = msgspec.msgpack.encode
ClaimArgs = tuple[str, Sequence[str], int, int, Mapping[str, int]]
Pick = tuple[int, str, int | None]


def event(tx: Tx, name: str, agent: str | None, run: str | None, /, **data: Any) -> Row:
    """A row for ``add_events``."""
    return (tx.now, name, agent, run, _encode(data))


async def add_events(tx: Tx, events: Sequence[Row]) -> None:
    """Write events in this transaction."""
    if events:
        await tx.many("event_add", events)
        tx.topics.add("events")


async def enqueue(tx: Tx, batch: Sequence[Sequence[NewRun]]) -> list[list[Enqueued] | MailboxFull]:
    """Make runs; each op's runs all or none."""
    known = await _known_by_key(tx, [run for runs in batch for run in runs])
    boxes = await _open_boxes(tx, {run.mailbox for runs in batch for run in runs if run.id not in known})
    refused = _refuse_full(batch, known, boxes)
    if refused:  # a message that is there already needs no room
        known |= await _known_by_id(tx, [run for i in refused for run in batch[i]])
        refused = _refuse_full(batch, known, boxes)
    wanted = [run for i, runs in enumerate(batch) if i not in refused for run in runs if run.id not in known]
    known |= await _take_keys(tx, wanted)
    wanted = [run for run in wanted if run.id not in known]
    made = await insert(tx, wanted)
    await admit(tx, boxes)
    results: list[list[Enqueued] | MailboxFull] = []
    for i, runs in enumerate(batch):
        if i in refused:
            results.append(refused[i])
        else:
            results.append([Enqueued(known.get(run.id, run.id), _first(made, run.id)) for run in runs])
    return results


def _first(made: set[str], run: str) -> bool:
    """Whether ``run`` was made; true once, for an id may stand in a batch twice."""
    new = run in made
    made.discard(run)
    return new


async def _known_by_key(tx: Tx, runs: Sequence[NewRun]) -> dict[str, str]:
    keyed = [run for run in runs if run.dedup is not None]
    if not keyed:
        return {}
    found = await tx.many("dedup_find", [(run.target, run.dedup, tx.now) for run in keyed])
    return {keyed[i].id: earlier for i, earlier in found}


async def _known_by_id(tx: Tx, runs: Sequence[NewRun]) -> dict[str, str]:
    found = {row[1] for row in await tx.many("run_get", [(run.id,) for run in runs])}
    return {run.id: run.id for run in runs if run.id in found}


async def _take_keys(tx: Tx, runs: Sequence[NewRun]) -> dict[str, str]:
    """Reserve dedup keys; those that somebody else took meanwhile answer the other's run."""
    keyed = [run for run in runs if run.dedup is not None]
    if not keyed:
        return {}
    rows_ = [(run.target, run.dedup, run.id, tx.now + run.dedup_ms, tx.now) for run in keyed]
    won = {i for i, _ in await tx.many("dedup_put", rows_)}
    return await _known_by_key(tx, [run for i, run in enumerate(keyed) if i not in won])


async def _open_boxes(tx: Tx, names: Iterable[str | None]) -> dict[str, gate.Box]:
    wanted = sorted(name for name in names if name is not None)
    if not wanted:
        return {}
    await tx.many("mailbox_ensure", [(name, 1.0, tx.now) for name in wanted])
    return await lock_boxes(tx, wanted)


async def lock_boxes(tx: Tx, names: Iterable[str]) -> dict[str, gate.Box]:
    """Mailboxes as they are now, held until the commit."""
    wanted = sorted(set(names))
    found = await tx.many("mailbox_lock", [(name,) for name in wanted]) if wanted else []
    return {row[1]: rows.box(row[1:]) for row in found}


def _refuse_full(
    batch: Sequence[Sequence[NewRun]], known: dict[str, str], boxes: dict[str, gate.Box]
) -> dict[int, MailboxFull]:
    """The ops that do not fit, in order of arrival."""
    room = {name: box.depth - box.queued for name, box in boxes.items() if box.depth is not None}
    refused: dict[int, MailboxFull] = {}
    for i, runs in enumerate(batch):
        need: dict[str, int] = {}
        for run in runs:
            if run.mailbox in room and run.id not in known:
                need[run.mailbox] = need.get(run.mailbox, 0) + 1
        full = next((name for name, count in need.items() if count > room[name]), None)
        if full is not None:
            refused[i] = _full(boxes[full], need[full])
            continue
        for name, count in need.items():
            room[name] -= count
    return refused


def _full(box: gate.Box, count: int) -> MailboxFull:
    seconds = gate.retry_after(box)
    return MailboxFull(
        f"cannot put {count} more into mailbox {box.name!r}: it holds {box.queued} of {box.depth}",
        why="the mailbox is paused" if box.paused else "its agent works more slowly than messages come",
        fix=f"try again in {seconds:.0f} s, or raise [agents.{box.name}] mailbox.depth",
        retry_after=seconds,
    )


async def insert(tx: Tx, runs: Sequence[NewRun], *, epoch: int = 0, slot: int | None = None) -> set[str]:
    """Insert run rows; answers the ids that were new. ``epoch`` 1 marks a run that has a journal already."""
    if not runs:
        return set()
    made = {row[1] for row in await tx.many("run_add", [_row(tx.now, run, epoch, slot) for run in runs])}
    fresh = [run for run in runs if run.id in made]
    await add_events(
        tx, [event(tx, "run.enqueued", run.agent, run.id, target=run.target, kind=run.kind) for run in fresh]
    )
    if any(run.mailbox is None or slot for run in fresh):
        tx.topics.add("ready")
    if any(run.delay_ms or run.at or run.expire_ms or run.timeout_ms for run in fresh):
        tx.topics.add("timers")
    return made


def _row(now: int, run: NewRun, epoch: int, slot: int | None) -> Row:
    due = run.at if run.at is not None else now + run.delay_ms
    later = due > now
    expires = None if run.expire_ms is None else max(due, now) + run.expire_ms
    deadline = None if run.timeout_ms is None else now + run.timeout_ms
    placed = slot if slot is not None else int(run.mailbox is None)
    return (
        run.id, run.agent, run.workflow, run.target, run.kind, "scheduled" if later else "available", run.mailbox,
        run.key, placed, run.priority, rank(max(due, now), run.priority), due if later else None, expires, deadline,
        epoch, run.max_attempts, run.input, run.parent, run.parent_pos, run.schedule, now,
    )  # fmt: skip


def rank(due_at: int, priority: int) -> int:
    """Lower goes first. Linear ageing needs no clock: a run overtakes whoever it has waited longer than by enough."""
    return due_at - priority * AGEING_MS


async def admit(tx: Tx, names: Iterable[str]) -> None:
    """Give free places of mailboxes to their best queued runs."""
    for box in (await lock_boxes(tx, names)).values():
        await _admit(tx, box)


async def _admit(tx: Tx, box: gate.Box) -> None:
    verdict = gate.decide(box, tx.now)
    left = verdict.places
    while left > 0:
        # With a limit for each key one place changes what the next may be: one at a time.
        step = 1 if box.key_concurrency is not None else left
        given = await tx.many("run_admit", [(box.name, step, box.key_concurrency, tx.now)])
        left -= len(given)
        if given:
            tx.topics.add("ready")
        if len(given) < step:
            break
        if box.concurrency is None and box.rate is None:
            left = gate.UNLIMITED  # nobody would come back for the rest: these may all wait for something
    if box.rate is not None:
        await _spend(tx, box, verdict.tokens - (verdict.places - left))


async def _spend(tx: Tx, box: gate.Box, tokens: float) -> None:
    waiting = await tx.many("mailbox_waiting", [(box.name,)])
    admit_at = gate.next_token_at(box, tokens, tx.now) if waiting and not box.paused else None
    await tx.many("mailbox_spend", [(box.name, tokens, tx.now, admit_at)])
    if admit_at is not None:
        tx.topics.add("timers")


async def claim(tx: Tx, batch: Sequence[ClaimArgs]) -> list[list[Run] | Fenced]:
    """Workers take runs. One worker after another: what one takes the next does not see."""
    return [await _claim(tx, *args) for args in batch]


async def _claim(
    tx: Tx, worker: str, targets: Sequence[str], limit: int, suspects: int, timeouts: Mapping[str, int]
) -> list[Run] | Fenced:
    if not await tx.many("worker_live", [(worker, tx.lease_now, tx.lease_boot)]):
        return Fenced(f"worker {worker} cannot claim runs", why="its lease has run out", fix="it joins again by itself")
    picked = await _pick(tx, "run_pick", targets, limit, timeouts)
    picked += await _pick(tx, "run_pick_suspect", targets, min(suspects, limit), timeouts)
    best = sorted(picked)[:limit]
    if len(picked) > limit:
        tx.topics.add("ready")  # see _pick
    taken = [
        rows.run(row[1:])
        for row in await tx.many("run_take", [(id_, worker, tx.now, timeout) for _, id_, timeout in best])
    ]
    await add_events(
        tx,
        [event(tx, "run.started", r.agent, r.id, worker=worker, epoch=r.epoch, attempt=r.attempt) for r in taken],
    )
    tx.topics.update(f"run:{r.id}" for r in taken)
    if any(timeout is not None for _, _, timeout in best):
        tx.topics.add("timers")
    return taken


async def _pick(tx: Tx, name: str, targets: Sequence[str], limit: int, timeouts: Mapping[str, int]) -> list[Pick]:
    if limit <= 0:
        return []
    found = await tx.many(name, [(target, limit, tx.now) for target in targets])
    if len(found) > limit:
        tx.topics.add("ready")  # a claim elsewhere has passed over what was locked here and is not taken
    best = sorted((rank_, id_, timeouts.get(targets[i])) for i, id_, rank_ in found)
    return best[:limit]
