"""Calls that reach other runs or wait: sleep, signal, child, send, gather. Each is recorded as one step."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

from relit.durable import faults
from relit.durable.awaitables import Recalled
from relit.durable.recorder import Dropped
from relit.durable.scope import PLACE, Scope
from relit.durable.waits import Waiting
from relit.errors import MailboxFull, RelitError, RunCancelled, RunError, RunFailed, WaitTimeout
from relit.store.values import NewRun, Run, Signal

if TYPE_CHECKING:
    from relit.durable.execution import Execution

NOTHING = b"\x01\xc0"  # the payload of None
_SHORT_MS = 1000  # a shorter sleep is not worth a row
_FULL_FIRST_MS, _FULL_MOST_MS = 250, 60_000


async def run_sleep(execution: Execution, pos: str, until: int) -> None:
    """Wait for a moment, and record that it came."""
    await execution.begin()
    try:
        known = None if execution.replay is None else execution.replay.wait(pos)
        started_at = execution.clock.now_ms()
        wake_at = until if known is None or known.wake_at is None else known.wake_at
        if wake_at - started_at <= _SHORT_MS:
            await asyncio.sleep(max(0, wake_at - started_at) / 1000)
        else:
            await execution.waits.wait(Waiting(pos, "timer", "", wake_at))
        await execution.recorder.append(pos, "sleep", "sleep", b"", result=NOTHING, started_at=started_at)
    finally:
        execution.end()


async def run_signal(execution: Execution, pos: str, name: str, timeout_ms: int | None, type: Any) -> Any:
    """Wait for the next signal of that name, and record it."""
    await execution.begin()
    try:
        known = None if execution.replay is None else execution.replay.wait(pos)
        started_at = execution.clock.now_ms()
        wake_at = None if timeout_ms is None else started_at + timeout_ms
        if known is not None:
            wake_at = known.wake_at
        found = await execution.waits.wait(Waiting(pos, "signal", name, wake_at))
        if not isinstance(found, Signal):
            raise await _timed_out(execution, pos, name, started_at)
        await execution.recorder.append(
            pos, "signal", name, b"", result=found.payload, started_at=started_at, consume=(found.id,)
        )
        return await execution.fetch(found.payload, type)
    finally:
        execution.end()


async def _timed_out(execution: Execution, pos: str, name: str, started_at: int) -> RelitError:
    error = WaitTimeout(
        f"the signal {name!r} did not come in time",
        why=f"the wait at position {pos} was limited",
        fix=f"relit signal {execution.run.id} {name}, or a longer timeout",
    )
    await _record_error(execution, pos, "signal", name, b"", error, started_at)
    return error


async def _record_error(
    execution: Execution, pos: str, kind: str, name: str, hash: bytes, error: RelitError, started_at: int
) -> None:
    payload = faults.dump(faults.describe(error))
    faults.placed(error, pos)
    await execution.recorder.append(pos, kind, name, hash, error=payload, started_at=started_at)


async def run_child(execution: Execution, pos: str, child: NewRun, hash: bytes, type: Any) -> Any:
    """Start a run and wait for its end; what it returned, or what it died of, is recorded."""
    await execution.begin()
    try:
        known = None if execution.replay is None else execution.replay.wait(pos)
        started_at = execution.clock.now_ms()
        waited_for = child.id if known is None else known.name
        if known is None:
            await execution.recorder.settle()
            await execution.recorder.insist(lambda: execution.recorder.store.enqueue([child]))
        found = await execution.waits.wait(Waiting(pos, "child", waited_for))
        assert isinstance(found, Run), "a wait for a child ends with the child"
        if found.state != "completed":
            error = _child_error(found)
            await _record_error(execution, pos, "child", child.target, hash, error, started_at)
            raise error
        output = found.output or NOTHING
        await execution.recorder.append(pos, "child", child.target, hash, result=output, started_at=started_at)
        return await execution.fetch(output, type)
    finally:
        execution.end()


def _child_error(child: Run) -> RelitError:
    if child.state == "cancelled":
        why = child.reason or ""
        return RunCancelled(f"the child run {child.id} was cancelled", why=why, fix=f"relit retry {child.id}")
    why = faults.summary(faults.load(child.error)) if child.error else child.reason or ""
    return RunFailed(f"the child run {child.id} ({child.target}) failed", why=why, fix=f"relit show {child.id}")


async def run_send(execution: Execution, pos: str, message: NewRun, hash: bytes) -> str:
    """Put a message into another agent's mailbox; when that is full, wait until there is room."""
    await execution.begin()
    try:
        attempt, not_before = execution.waits.resume(pos)
        started_at = execution.clock.now_ms()
        if not_before is not None:
            await execution.waits.pause(pos, message.target, attempt - 1, not_before, None)
        while True:
            try:
                await execution.recorder.append(
                    pos,
                    "send",
                    message.target,
                    hash,
                    result=execution.payloads.pack(message.id),
                    started_at=started_at,
                    attempts=attempt,
                    sends=(message,),
                )
                return message.id
            except MailboxFull as error:
                delay = min(_FULL_MOST_MS, _FULL_FIRST_MS << min(attempt - 1, 10))
                until = execution.clock.now_ms() + delay
                await execution.waits.pause(pos, message.target, attempt, until, error)
                attempt += 1
    finally:
        execution.end()


# --- gather ------------------------------------------------------------------------------------------------------


class _Branches:
    """The branches of one gather: tasks that leave their outcome here."""

    def __init__(self, execution: Execution, waiter: asyncio.Task[Any] | None, count: int) -> None:
        self.execution = execution
        self.waiter = waiter
        self.left = count
        self.results: list[Any] = [None] * count
        self.errors: dict[int, Exception] = {}
        self.all_done: asyncio.Future[None] = execution.loop.create_future()

    async def run(self, index: int, scope: Scope, work: Awaitable[Any]) -> None:
        scope.task = asyncio.current_task()
        self.execution.own.add(scope.task)
        PLACE.set(scope)
        try:
            self.results[index] = await work
        except Exception as error:  # noqa: BLE001 - raised again where the gather is awaited
            self.errors[index] = error
        except asyncio.CancelledError:
            if not self.execution.closed:
                self.errors[index] = RunError(f"branch {index} of a gather was cancelled from inside")
            raise
        finally:
            self._leave(scope.task)

    def _leave(self, task: asyncio.Task[Any] | None) -> None:
        execution = self.execution
        execution.own.discard(task)
        self.left -= 1
        if self.left == 0:
            execution.waits.blocked.discard(self.waiter)  # before it is woken: it does not wait any more
            if not self.all_done.done():
                self.all_done.set_result(None)
        else:
            execution.waits.consider()


async def run_gather(
    execution: Execution, scope: Scope, pos: str, works: Sequence[Awaitable[Any]], return_exceptions: bool
) -> list[Any]:
    """Run all; wait for all, whatever fails; then the results in order, or the first branch's error.

    Nothing is cancelled when one branch fails: which steps of the others were reached would depend on timing.
    """
    if all(isinstance(work, Recalled) for work in works):
        return await _recall(works, return_exceptions)
    if execution.closed:
        for work in works:
            _discard(work)
        raise Dropped("the run has been let go of")
    task = asyncio.current_task()
    branches = _Branches(execution, task, len(works))
    tasks = [
        execution.spawn(functools.partial(branches.run, i, Scope(execution, f"{pos}/{i}", scope, None), work))
        for i, work in enumerate(works)
    ]
    for each, work in zip(tasks, works, strict=True):
        each.add_done_callback(functools.partial(_discard, work))
    execution.own.update(tasks)
    execution.waits.blocked.add(task)
    try:
        await branches.all_done
    except asyncio.CancelledError:
        for each in tasks:
            each.cancel()
        raise
    finally:
        execution.waits.blocked.discard(task)
    return _outcome(branches.results, branches.errors, return_exceptions)


def _discard(work: Awaitable[Any], _: object = None) -> None:
    """A coroutine that was never started (its run was let go of first) would complain when it is collected."""
    if asyncio.iscoroutine(work):
        work.close()


async def _recall(works: Sequence[Awaitable[Any]], return_exceptions: bool) -> list[Any]:
    results: list[Any] = [None] * len(works)
    errors: dict[int, Exception] = {}
    for i, work in enumerate(works):
        try:
            results[i] = await work
        except Exception as error:  # noqa: BLE001 - a recorded failure, raised below
            errors[i] = error
    return _outcome(results, errors, return_exceptions)


def _outcome(results: list[Any], errors: dict[int, Exception], return_exceptions: bool) -> list[Any]:
    if errors and not return_exceptions:
        first, *others = (errors[i] for i in sorted(errors))
        raise faults.with_others(first, others)
    return [errors.get(i, result) for i, result in enumerate(results)]
