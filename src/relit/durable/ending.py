"""How a claim ends: verdicts, and what the store is told about each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from relit.durable import faults, inputs, retry
from relit.durable.faults import Fault
from relit.errors import JournalMismatch, RelitError, RunTimeout
from relit.lib.ids import derived_id
from relit.store.values import Finish, NewRun, RunState

if TYPE_CHECKING:
    from relit.durable.execution import Execution


class Completed(msgspec.Struct, frozen=True):
    """The workflow returned."""

    value: Any


class Failed(msgspec.Struct, frozen=True):
    """The workflow raised, or ran out of time."""

    error: BaseException


class Cancelled(msgspec.Struct, frozen=True):
    """The run was cancelled."""

    reason: str


class Parked(msgspec.Struct, frozen=True):
    """A person must look at it."""

    reason: str
    fault: Fault | None = None


class Suspended(msgspec.Struct, frozen=True):
    """The run waits as rows: the store knows already."""


class Lost(msgspec.Struct, frozen=True):
    """The run is not ours any more: nothing may be written."""


class Continued(msgspec.Struct, frozen=True):
    """The run goes on as a new one, with a fresh journal."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


SUSPENDED = Suspended()
Verdict = Completed | Failed | Cancelled | Parked | Suspended | Lost | Continued


async def settle(execution: Execution, verdict: Verdict) -> Finish:
    """What to write for ``verdict``."""
    match verdict:
        case Completed(value):
            return await _returned(execution, value, None)
        case Continued():
            return await _returned(execution, None, verdict)
        case Failed(error):
            return failed(execution, error)
        case Cancelled(reason):
            return Finish(state="cancelled", reason=reason)
        case Parked(reason, fault):
            return Finish(state="parked", reason=reason, error=None if fault is None else faults.dump(fault))
        case _:
            raise AssertionError(f"{verdict} is not written by finish")


async def _returned(execution: Execution, value: Any, again: Continued | None) -> Finish:
    if execution.replay is not None and (left := execution.replay.leftover()) is not None:
        return _left_over(left)
    try:
        if again is not None:
            following = await execution.recorder.insist(lambda: _next_run(execution, again))
            return Finish(state="completed", reason="continued", next_run=following)
        return Finish(state="completed", output=await execution.store(execution.payloads.pack(value)))
    except RelitError as error:  # the result cannot be stored: that is the run's failure
        return failed(execution, error)


def _left_over(left: str) -> Finish:
    error = JournalMismatch(
        "the workflow returned without asking for all of its journal",
        recorded=left,
        found="the end of the workflow",
        fix='put the old code back, guard the change with `if ctx.patched("NAME"):`, or fork from an earlier step',
    )
    return Finish(state="parked", reason="journal-mismatch", error=faults.dump(faults.describe(error)))


async def _next_run(execution: Execution, again: Continued) -> NewRun:
    run = execution.run
    return NewRun(
        id=derived_id(run.id, "continue"),
        agent=run.agent,
        workflow=run.workflow,
        input=await inputs.encode(execution.payloads, again.args, again.kwargs),
        kind=run.kind,
        mailbox=run.mailbox,
        key=run.key,
        priority=run.priority,
        timeout_ms=execution.workflow.timeout_ms,
        max_attempts=run.max_attempts,
        parent=run.parent,
        parent_pos=run.parent_pos,
        schedule=run.schedule,
    )


def failed(execution: Execution, error: BaseException) -> Finish:
    """A failed run is tried again from its failed step, or is over; a message that is over is a dead letter."""
    run, policy = execution.run, execution.workflow.retry
    fault = faults.describe(error, retry=not isinstance(error, asyncio.CancelledError))
    forget = faults.positions(error)
    payload = faults.dump(fault)
    final = isinstance(error, (RunTimeout, *policy.no_retry_on))
    if run.attempt < (run.max_attempts or policy.attempts) and not final:
        wake_at = execution.clock.now_ms() + retry.pause(max(1, run.attempt), policy, execution.chance)
        return Finish(state="scheduled", reason="retry", error=payload, wake_at=wake_at, forget=forget)
    over: RunState = "discarded" if run.kind != "call" else "failed"
    reason = "timeout" if isinstance(error, RunTimeout) else faults.summary(fault)
    return Finish(state=over, reason=reason, error=payload, failed_pos=" ".join(forget) or None)
