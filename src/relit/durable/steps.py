"""A step that is not in the journal: try, try again, record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relit.durable import faults
from relit.durable.invoke import Call, invoke
from relit.durable.retry import Again, Retry, decide
from relit.errors import StepFailed
from relit.lib import crashpoints

if TYPE_CHECKING:
    from relit.durable.execution import Execution


async def run_step(execution: Execution, call: Call, policy: Retry) -> Any:
    """The step's result, once it is on disk. Raises ``StepFailed`` once its failure is."""
    await execution.begin()
    try:
        attempt, not_before = execution.waits.resume(call.pos)
        if not_before is not None:
            await execution.waits.pause(call.pos, call.name, attempt - 1, not_before, None)
        return await _try(execution, call, policy, attempt)
    finally:
        execution.end()


async def _try(execution: Execution, call: Call, policy: Retry, attempt: int) -> Any:
    while True:
        started_at = execution.clock.now_ms()
        crashpoints.point("step.before")
        try:
            value = await invoke(execution, call, call.fn, attempt)
            packed = execution.payloads.pack(value)
            value = execution.payloads.settle(value, packed, call.function.type)
        except Exception as error:  # noqa: BLE001 - a step may raise anything; the policy decides
            await after_failure(execution, "step", call, policy, attempt, started_at, error)
            attempt += 1
            continue
        crashpoints.point("step.after")
        await execution.recorder.append(
            call.pos,
            "step",
            call.name,
            call.hash,
            result=packed if execution.payloads.ready(packed) else await execution.store(packed),
            started_at=started_at,
            attempts=attempt,
        )
        return value


async def after_failure(
    execution: Execution, kind: str, call: Call, policy: Retry, attempt: int, started_at: int, error: Exception
) -> None:
    """Wait for the next attempt, or record the failure and raise ``StepFailed``."""
    verdict = decide(attempt, error, policy, execution.chance)
    if isinstance(verdict, Again):
        until = execution.clock.now_ms() + verdict.delay_ms
        await execution.waits.pause(call.pos, call.name, attempt, until, error)
        return
    raise await record_failure(execution, kind, call, attempt, started_at, error) from error


async def record_failure(
    execution: Execution, kind: str, call: Call, attempt: int, started_at: int, error: BaseException
) -> StepFailed:
    """Record that the step failed for good; answers what to raise."""
    fault = faults.describe(error)
    await execution.recorder.append(
        call.pos, kind, call.name, call.hash, error=faults.dump(fault), started_at=started_at, attempts=attempt
    )
    return faults.step_failed(kind, call.name, call.pos, fault)
