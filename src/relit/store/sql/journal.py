"""Operations of a claimed run: every one checks the fence in the transaction that writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relit.errors import Fenced
from relit.store.sql import queue
from relit.store.sql.ending import after_end
from relit.store.sql.reviving import retry_children
from relit.store.sql.tx import Tx
from relit.store.values import FINAL, Effect, Fence, Finish, NewRun, Step, StreamItem, Wait

AppendArgs = tuple[Fence, Sequence[Step], Sequence[NewRun], Sequence[str], str | None]
SETTLES_WAIT = frozenset({"sleep", "signal", "child"})


def fenced(fence: Fence) -> Fenced:
    return Fenced(
        f"run {fence.run} was not changed",
        why=f"claim {fence.epoch} is not the newest any more: another worker has taken the run, or it has ended",
        fix=f"relit show {fence.run}",
    )


async def append(tx: Tx, batch: Sequence[AppendArgs]) -> list[Fenced | None]:
    """Record steps, with what belongs to them in the same commit."""
    steps = [(i, args[0], step) for i, args in enumerate(batch) for step in args[1]]
    added = await tx.many(
        "step_add",
        [
            (f.run, f.epoch, s.seq, s.pos, s.kind, s.name, s.hash, s.result, s.error, s.started_at, s.finished_at,
             s.attempts)
            for _, f, s in steps
        ],
    )  # fmt: skip
    live = {steps[row[0]][0] for row in added}
    await _adopt(tx, [(batch[i][0].run, batch[i][4], batch[i][1][-1].pos) for i in sorted(live)])
    await _settle(tx, [(fence.run, step) for i, fence, step in steps if i in live])
    consumed = [(id_,) for i in live for id_ in batch[i][3]]
    if consumed:
        await tx.many("signal_consume", consumed)
    sends = [batch[i][2] for i in sorted(live) if batch[i][2]]
    if sends:
        for result in await queue.enqueue(tx, sends):
            if isinstance(result, Exception):
                raise result  # undoes this op: a step that sends is recorded only with what it sends
    tx.topics.update(f"steps:{batch[i][0].run}" for i in live)
    return [None if i in live else fenced(args[0]) for i, args in enumerate(batch)]


async def _settle(tx: Tx, steps: Sequence[tuple[str, Step]]) -> None:
    """Steps end the waits and close the effects at their positions."""
    waits = [(run, s.pos) for run, s in steps if s.kind in SETTLES_WAIT or s.attempts > 1]
    effects = [
        (run, s.pos, "done" if s.error is None else "failed", s.result) for run, s in steps if s.kind == "effect"
    ]
    waits += [(run, pos) for run, pos, _, _ in effects]
    if waits:
        await tx.many("wait_settle", waits)
    if effects:
        await tx.many("effect_settle", effects)


async def _adopt(tx: Tx, moves: Sequence[tuple[str, str | None, str]]) -> None:
    """Give effects that are adrift their new positions."""
    if adopted := [move for move in moves if move[1] is not None]:
        await tx.many("effect_move", adopted)


async def _hold(tx: Tx, fences: Sequence[Fence]) -> dict[int, tuple[Any, ...]]:
    """The batch's indexes whose claim stands: agent and pending request of each."""
    held = await tx.many("run_hold", [(fence.run, fence.epoch) for fence in fences])
    return {row[0]: row[2:] for row in held}


async def intend(tx: Tx, batch: Sequence[tuple[Fence, Effect, str | None]]) -> list[Fenced | None]:
    """Write effects' intents."""
    held = await _hold(tx, [fence for fence, _, _ in batch])
    live = [(e, old) for i, (_, e, old) in enumerate(batch) if i in held]
    await _adopt(tx, [(e.run, old, e.pos) for e, old in live])
    rows = [(e.run, e.pos, e.name, e.doubt, e.key, e.hash, e.request, e.intent_at, e.deadline_at) for e, _ in live]
    if rows:
        await tx.many("effect_add", rows)
    return [None if i in held else fenced(fence) for i, (fence, _, _) in enumerate(batch)]


async def doubt(tx: Tx, batch: Sequence[tuple[Fence, str]]) -> list[Fenced | None]:
    """Mark open effects in doubt."""
    held = await _hold(tx, [fence for fence, _ in batch])
    live = [i for i in range(len(batch)) if i in held]
    marked = await tx.many("effect_doubt", [(batch[i][0].run, batch[i][1]) for i in live])
    events = [
        queue.event(tx, "effect.in_doubt", held[live[j]][0], batch[live[j]][0].run, pos=batch[live[j]][1], name=name)
        for j, name in marked
    ]
    await queue.add_events(tx, events)
    return [None if i in held else fenced(fence) for i, (fence, _) in enumerate(batch)]


async def emit(tx: Tx, batch: Sequence[tuple[Fence, Sequence[StreamItem]]]) -> list[Fenced | None]:
    """Append stream items; known indexes stay as they are."""
    held = await _hold(tx, [fence for fence, _ in batch])
    items = [
        (fence.run, item.idx, item.pos, item.attempt, item.data, item.at or tx.now)
        for i, (fence, many) in enumerate(batch)
        if i in held
        for item in many
    ]
    if items:
        await tx.many("stream_add", items)
    tx.topics.update(f"steps:{batch[i][0].run}" for i in held)
    return [None if i in held else fenced(fence) for i, (fence, _) in enumerate(batch)]


async def suspend(tx: Tx, batch: Sequence[tuple[Fence, Sequence[Wait], str]]) -> list[Fenced | bool]:
    """Let runs wait as rows; false where something has come already."""
    held = await _hold(tx, [fence for fence, _, _ in batch])
    waits = [(batch[i][0].run, w.pos, w.kind, w.name, w.wake_at, w.data) for i in held for w in batch[i][1]]
    if waits:
        await tx.many("wait_put", waits)
    quiet = [i for i in held if held[i][1] is None]
    ready = {quiet[row[0]] for row in await tx.many("wait_ready", [(batch[i][0].run, tx.now) for i in quiet])}
    asleep = [i for i in quiet if i not in ready]
    slept = await tx.many("run_wait", [(batch[i][0].run, batch[i][2]) for i in asleep])
    moments = {asleep[j]: wake_at for j, wake_at, _ in slept}
    await queue.add_events(
        tx,
        [
            queue.event(tx, "run.waiting", held[i][0], batch[i][0].run, reason=batch[i][2], wake_at=moments[i])
            for i in asleep
        ],
    )
    tx.topics.update(f"run:{batch[i][0].run}" for i in asleep)
    if any(at is not None for row in slept for at in row[1:]):  # a moment to wake at, or the run's time limit
        tx.topics.add("timers")
    return [i in moments if i in held else fenced(fence) for i, (fence, _, _) in enumerate(batch)]


async def finish(tx: Tx, batch: Sequence[tuple[Fence, Finish]]) -> list[Fenced | None]:
    """End claims."""
    batch = await _obeyed(tx, batch)
    rows = [_finish_row(tx.now, fence, end) for fence, end in batch]
    ended = {row[0]: row[1:] for row in await tx.many("run_finish", rows)}
    forget = [(batch[i][0].run, pos) for i in ended for pos in batch[i][1].forget]
    if forget:
        await tx.many("step_forget", forget)
        await tx.many("wait_settle", forget)
    over = [(batch[i][0].run,) for i in ended if batch[i][1].state in FINAL]
    if over:
        await tx.many("wait_clear", over)
    await queue.add_events(tx, [_finish_event(tx, batch[i][0], batch[i][1], ended[i]) for i in sorted(ended)])
    boxes: set[str] = set()
    for i in sorted(ended):
        boxes |= await _aftermath(tx, batch[i][0], batch[i][1], mailbox=ended[i][1], parent=ended[i][2])
    await queue.admit(tx, boxes)
    return [None if i in ended else fenced(fence) for i, (fence, _) in enumerate(batch)]


async def _obeyed(tx: Tx, batch: Sequence[tuple[Fence, Finish]]) -> Sequence[tuple[Fence, Finish]]:
    """A run that would go on or be set aside, and was just asked to end or pause, does that instead."""
    going = [i for i, (_, end) in enumerate(batch) if end.next_run is not None or end.state not in FINAL]
    if not going:
        return batch
    held = await _hold(tx, [batch[i][0] for i in going])
    obeyed = list(batch)
    for j, (_, request) in held.items():
        fence, end = batch[going[j]]
        if request == "cancel":
            obeyed[going[j]] = fence, Finish(state="cancelled", reason="cancelled", error=end.error)
        elif request == "pause" and end.state != "parked":
            obeyed[going[j]] = fence, Finish(state="parked", reason="paused", error=end.error, forget=end.forget)
    return obeyed


def _finish_row(now: int, fence: Fence, end: Finish) -> tuple[Any, ...]:
    following = end.next_run.id if end.next_run else None
    retry = int(end.state == "scheduled")
    return (
        fence.run, fence.epoch, end.state, end.reason, end.output, end.error, end.failed_pos, end.wake_at,
        int(end.state in FINAL), now, following, retry,
    )  # fmt: skip


def _finish_event(tx: Tx, fence: Fence, end: Finish, row: tuple[Any, ...]) -> tuple[Any, ...]:
    agent, _, _, attempt = row
    if end.state == "scheduled":
        return queue.event(
            tx, "run.retrying", agent, fence.run, attempt=attempt, wake_at=end.wake_at, reason=end.reason
        )
    return queue.event(tx, f"run.{end.state}", agent, fence.run, reason=end.reason)


async def _aftermath(tx: Tx, fence: Fence, end: Finish, *, mailbox: str | None, parent: str | None) -> set[str]:
    """What follows from a claim's end; answers the mailboxes that have places to give."""
    run = fence.run
    tx.topics.add(f"run:{run}")
    if end.state == "scheduled":
        await retry_children(tx, run)
        tx.topics.update({"timers", "ready"})
    elif end.state == "parked":
        tx.topics.add("timers")  # its time limit is watched from here on
    elif end.state in FINAL:
        if end.next_run is not None:
            await _continue(tx, run, parent, end.next_run)
        else:
            return await after_end(tx, run, parent, end.state) | ({mailbox} if mailbox else set())
    return {mailbox} if mailbox else set()


async def _continue(tx: Tx, run: str, parent: str | None, following: NewRun) -> None:
    """The next run takes the place, the waiting signals and the parent of this one."""
    tx.topics.add(f"end:{run}")
    if following.mailbox is not None:
        await queue.lock_boxes(tx, [following.mailbox])
    await queue.insert(tx, [following], epoch=1, slot=1)
    await tx.many("signal_move", [(run, following.id)])
    if parent is not None:
        await tx.many("parent_repoint", [(parent, run, following.id)])


async def release(tx: Tx, batch: Sequence[Sequence[Fence]]) -> list[None]:
    """Give claims back."""
    given = await tx.many("run_release", [(fence.run, fence.epoch) for fences in batch for fence in fences])
    if given:
        tx.topics.add("ready")
    return [None for _ in batch]


async def beat(tx: Tx, batch: Sequence[tuple[Fence, bytes]]) -> list[Fenced | None]:
    """Record heartbeats."""
    rows = [(fence.run, fence.epoch, detail, tx.now) for fence, detail in batch]
    live = {row[0] for row in await tx.many("run_beat", rows)}
    tx.topics.update(f"steps:{batch[i][0].run}" for i in live)
    return [None if i in live else fenced(fence) for i, (fence, _) in enumerate(batch)]
