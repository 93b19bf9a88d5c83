"""Operations on runs from outside: signal, cancel, pause, resume, retry, requeue, fork, resolve.

One run each, so a batch is done one after another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from relit.errors import Conflict, NotFound, RelitError
from relit.store.sql import ending, queue
from relit.store.sql.reviving import begin_again, revive
from relit.store.sql.tx import Operation, Tx
from relit.store.values import FINAL, NewRun, Run, Signal


def one_by_one(single: Callable[[Tx, Any], Awaitable[Any]]) -> Operation:
    """An operation from a function of one argument. The function raises only before it has written."""

    async def batch(tx: Tx, args: Sequence[Any]) -> list[Any]:
        results: list[Any] = []
        for arg in args:
            try:
                results.append(await single(tx, arg))
            except RelitError as error:
                results.append(error)
        return results

    return batch


async def get(tx: Tx, run: str) -> Run:
    """The run, held until the commit. Raises NotFound."""
    found = await ending.lock(tx, [run])
    if not found:
        raise no_run(run)
    return found[0]


def no_run(run: str) -> NotFound:
    return NotFound(f"there is no run {run!r}", fix="relit runs")


def refuse(verb: str, run: Run, why: str = "", fix: str = "") -> Conflict:
    return Conflict(f"cannot {verb} run {run.id}", why=why or f"it is {run.state}", fix=fix or f"relit show {run.id}")


@one_by_one
async def signal(tx: Tx, signal: Signal) -> bool:
    """Deliver a signal; a continued run's goes to the newest."""
    run = await get(tx, signal.run)
    while run.continued_to is not None:
        run = await get(tx, run.continued_to)
    if run.final:
        raise refuse("signal", run, fix=f"relit fork {run.id}")
    row = (signal.id, run.id, signal.name, signal.payload, signal.at or tx.now)
    if not await tx.many("signal_add", [row]):
        return False
    if await tx.many("signal_wake", [(run.id, signal.name)]):
        tx.topics.add("ready")
    tx.topics.add(f"run:{run.id}")
    await queue.add_events(tx, [queue.event(tx, "signal.received", run.agent, run.id, name=signal.name)])
    return True


@one_by_one
async def cancel(tx: Tx, args: tuple[str, str]) -> Run:
    run = await get(tx, args[0])
    while run.continued_to is not None:
        run = await get(tx, run.continued_to)
    if run.final:
        raise refuse("cancel", run)
    await queue.admit(tx, await ending.cancel(tx, run, args[1]))
    return await get(tx, run.id)


@one_by_one
async def pause(tx: Tx, id_: str) -> Run:
    run = await get(tx, id_)
    if run.final or run.state == "parked":
        raise refuse("pause", run)
    if run.state == "running":
        await tx.many("run_request", [(run.id, "pause", "paused")])
        tx.topics.update({"requests", f"run:{run.id}"})
    else:
        await tx.many("run_set", [(run.id, "parked", "paused", 0, None, None)])
        await queue.add_events(tx, [queue.event(tx, "run.parked", run.agent, run.id, reason="paused")])
        await queue.admit(tx, _box(run))
        tx.topics.add(f"run:{run.id}")
    return await get(tx, run.id)


@one_by_one
async def resume(tx: Tx, id_: str) -> Run:
    run = await get(tx, id_)
    if run.state != "parked":
        raise refuse("resume", run)
    await _refuse_doubt(tx, "resume", run)
    return await _revive(tx, run, "run.resumed", attempt=run.attempt)


@one_by_one
async def retry(tx: Tx, id_: str) -> Run:
    run = await get(tx, id_)
    if run.state not in ("failed", "cancelled", "discarded", "parked"):
        raise refuse("retry", run)
    await _refuse_doubt(tx, "retry", run)
    await begin_again(tx, run)
    return await _revive(tx, run, "run.retried", attempt=1)


@one_by_one
async def requeue(tx: Tx, id_: str) -> Run:
    run = await get(tx, id_)
    if run.state != "discarded":
        raise refuse("requeue", run, why=f"it is {run.state}, not a dead letter", fix=f"relit retry {run.id}")
    await begin_again(tx, run)
    return await _revive(tx, run, "run.requeued", attempt=0)


async def _refuse_doubt(tx: Tx, verb: str, run: Run) -> None:
    if open_ := await tx.many("effects_in_doubt", [(run.id,)]):
        pos = open_[0][1]
        raise refuse(
            verb,
            run,
            why=f"nobody knows yet whether its effect at {pos} happened",
            fix=f"relit effects resolve {run.id} {pos} --done|--not-done",
        )


async def _revive(tx: Tx, run: Run, event: str, *, attempt: int) -> Run:
    await revive(tx, run, event, attempt=attempt)
    return await get(tx, run.id)


def _box(run: Run) -> set[str]:
    return {run.mailbox} if run.mailbox else set()


@one_by_one
async def fork(tx: Tx, args: tuple[str, int | None, str, bytes | None]) -> Run:
    """A new run that starts with a part of another's journal."""
    id_, seq, new_id, input_ = args
    source = await get(tx, id_)
    if seq is not None and seq < 0:
        raise Conflict(f"cannot fork run {id_} at step {seq}", why="steps are numbered from 1", fix=f"relit show {id_}")
    await _refuse_doubt(tx, "fork", source)  # the fork would do it without asking
    run = NewRun(
        id=new_id, agent=source.agent, workflow=source.workflow, input=source.input if input_ is None else input_,
        kind=source.kind, mailbox=source.mailbox, key=source.key, priority=source.priority,
        max_attempts=source.max_attempts,
    )  # fmt: skip
    if run.mailbox is not None:
        await tx.many("mailbox_ensure", [(run.mailbox, 1.0, tx.now)])
    await queue.insert(tx, [run], epoch=1)
    await tx.many("run_origin", [(new_id, id_)])
    await tx.many("steps_copy", [(id_, new_id, seq)])
    await queue.add_events(tx, [queue.event(tx, "run.forked", source.agent, new_id, source=id_, seq=seq)])
    await queue.admit(tx, _box(source))
    return await get(tx, new_id)


@one_by_one
async def resolve(tx: Tx, args: tuple[str, str, bytes | None]) -> Run:
    """A person's word on an effect in doubt."""
    id_, pos, result = args
    run = await get(tx, id_)
    found = await tx.many("effect_get", [(id_, pos)])
    if not found or found[0][3] != "in_doubt":
        raise refuse("resolve an effect of", run, why=f"its effect at {pos!r} is not in doubt", fix="relit effects")
    _, name, hash_, _, intent_at = found[0]
    if result is None:
        await tx.many("effect_drop", [(id_, pos)])
    elif "@" in pos:  # its position was superseded: the run finds it by name and input
        await tx.many("effect_keep", [(id_, pos, result)])
    else:
        await tx.many("step_resolve", [(id_, pos, name, hash_, result, intent_at, tx.now)])
        await tx.many("effect_settle", [(id_, pos, "done", result)])
    await queue.add_events(tx, [queue.event(tx, "effect.resolved", run.agent, id_, pos=pos, done=result is not None)])
    still = await tx.many("effects_in_doubt", [(id_,)])
    if run.state in FINAL or run.state != "parked" or still:
        return run
    return await _revive(tx, run, "run.resumed", attempt=run.attempt)
