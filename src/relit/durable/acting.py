"""An effect that has no receipt in the journal: intent, act, receipt, and the doubts between them.

What may be done at each moment is decided in ``effects``; this module does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from relit.durable import effects, retry
from relit.durable.functions import look_at
from relit.durable.invoke import Call, invoke
from relit.durable.retry import Again, Retry
from relit.durable.steps import record_failure
from relit.errors import EffectNotDone, StepTimeout, Unserialisable
from relit.lib import crashpoints
from relit.store.values import Doubt, Effect

if TYPE_CHECKING:
    from relit.durable.execution import Execution

_ABSENT: Any = object()
_REQUEST_MAX = 4096


class Deed(msgspec.Struct):
    """One effect on its way. ``deadline_at``: until then the newest call may still succeed; 0: none was made."""

    call: Call
    doubt: Doubt
    lookup: Any
    policy: Retry
    key: str
    deadline_at: int = 0
    intent_at: int = 0
    expired: bool = False
    attempt: int = 1


async def run_effect(execution: Execution, call: Call, doubt: Doubt, lookup: Any, policy: Retry) -> Any:
    """The effect's result, once its receipt is on disk."""
    await execution.begin()
    try:
        known = None if execution.replay is None else execution.replay.effect(call.pos)
        if known is None and execution.replay is not None:
            known = execution.replay.adrift(call.name, call.hash)
        if known is not None and known.state == "kept":
            return await _remember(execution, call, known)
        deed = Deed(
            call, doubt, lookup, policy, known.key if known else execution.own_id(call.pos, call.name, call.hash)
        )
        if call.function.takes_key:
            call.kwargs.setdefault("idempotency_key", deed.key)
        deed.attempt, not_before = execution.waits.resume(call.pos)
        if known is not None:
            if known.pos != call.pos:
                await execution.recorder.intend(msgspec.structs.replace(known, pos=call.pos), adopts=known.pos)
            deed.deadline_at, deed.intent_at = known.deadline_at, known.intent_at
            deed.expired = execution.run.taken_over == "expiry"
        elif execution.run.recovered_at is not None:
            await _intend(execution, deed)  # the copy may be older than the effect: it is in doubt from the start
        if not_before is not None:
            await execution.waits.pause(call.pos, call.name, deed.attempt - 1, not_before, None)
        return await _carry_out(execution, deed)
    finally:
        execution.end()


async def _remember(execution: Execution, call: Call, kept: Effect) -> Any:
    """It was done before the journal went back: record that result here, and do nothing."""
    assert kept.result is not None  # it was done
    await execution.recorder.append(
        call.pos, "effect", call.name, call.hash, result=kept.result, started_at=kept.intent_at, attempts=0,
        adopts=kept.pos,
    )  # fmt: skip
    return await execution.fetch(kept.result, call.function.type)


async def _carry_out(execution: Execution, deed: Deed) -> Any:
    in_doubt = deed.deadline_at > 0
    while True:
        if in_doubt and (found := await _settle(execution, deed)) is not _ABSENT:
            return await _receipt(execution, deed, found)
        await _intend(execution, deed)
        try:
            value = await _act(execution, deed)
        except Exception as error:  # noqa: BLE001 - an effect may raise anything; its class decides
            in_doubt, again = await _after_failure(execution, deed, error)
            if not again:
                return await _give_up(execution, deed, error, in_doubt)
            deed.attempt += 1
        else:
            return await _receipt(execution, deed, value)


async def _intend(execution: Execution, deed: Deed) -> None:
    call = deed.call
    margin = execution.recorder.lease.lease_ms // 2
    if not await execution.recorder.insist(lambda: execution.recorder.lease.margin(margin)):
        raise execution.lost()
    deed.intent_at = execution.clock.now_ms()
    deed.deadline_at = deed.intent_at + round((call.timeout_s or 0) * 1000)
    await execution.recorder.intend(_intent(execution, deed))


async def _act(execution: Execution, deed: Deed) -> Any:
    """Call the function, unless the intent took so long to write that others may have gone on without us."""
    call = deed.call
    if execution.recorder.lease.left_ms() == 0:
        raise execution.lost()
    call.limit_s = (deed.deadline_at - execution.clock.now_ms()) / 1000  # nothing goes on after the deadline
    if call.limit_s <= 0:
        raise EffectNotDone(
            f"the effect {call.name!r} (position {call.pos}) was not sent",
            why="its timeout had passed before its intent was on disk",
            fix="raise timeout=, or look why the store is slow",
        )
    crashpoints.point("act.before")
    value = await invoke(execution, deed.call, deed.call.fn, deed.attempt)
    crashpoints.point("act.after")
    return value


def _intent(execution: Execution, deed: Deed) -> Effect:
    call = deed.call
    request = execution.payloads.pack({"args": call.args, "kwargs": call.kwargs})
    return Effect(
        run=execution.run.id,
        pos=call.pos,
        name=call.name,
        doubt=deed.doubt,
        key=deed.key,
        state="open",
        hash=call.hash,
        request=request if len(request) <= _REQUEST_MAX and execution.payloads.ready(request) else None,
        intent_at=deed.intent_at,
        deadline_at=deed.deadline_at,
    )


async def _receipt(execution: Execution, deed: Deed, value: Any) -> Any:
    """Record that it happened. It did, so a result that cannot be stored must not lead to another call."""
    call = deed.call
    try:
        packed = execution.payloads.pack(value)
        value = execution.payloads.settle(value, packed, call.function.type)
    except Unserialisable as error:
        if deed.doubt != "key":  # a recorded failure would be done again by the run's next attempt
            raise await execution.ask(call.pos, call.name, str(error)) from error
        raise await record_failure(execution, "effect", call, deed.attempt, deed.intent_at, error) from error
    crashpoints.point("receipt.before")
    await execution.recorder.append(
        call.pos,
        "effect",
        call.name,
        call.hash,
        result=packed if execution.payloads.ready(packed) else await execution.store(packed),
        started_at=deed.intent_at,
        attempts=deed.attempt,
    )
    crashpoints.point("receipt.after")
    return value


async def _after_failure(execution: Execution, deed: Deed, error: Exception) -> tuple[bool, bool]:
    """Whether the failed attempt is in doubt, and whether another follows (the pause before it is over then)."""
    call = deed.call
    meaning = effects.after_failure(deed.doubt, certain=isinstance(error, EffectNotDone))
    if meaning == "doubt" and isinstance(error, StepTimeout) and not call.function.is_async:
        meaning = "ask"  # the thread that was given up may still do it, whenever
    if meaning == "ask":
        raise await execution.ask(call.pos, call.name)
    verdict = retry.decide(deed.attempt, error, deed.policy, execution.chance)
    if isinstance(verdict, Again):
        until = execution.clock.now_ms() + verdict.delay_ms
        await execution.waits.pause(call.pos, call.name, deed.attempt, until, error)
    return meaning == "doubt", isinstance(verdict, Again)


async def _give_up(execution: Execution, deed: Deed, error: Exception, in_doubt: bool) -> Any:
    """No attempt is left: record the failure, unless a lookup finds that it happened after all."""
    if in_doubt and (found := await _settle(execution, deed)) is not _ABSENT:
        return await _receipt(execution, deed, found)
    raise await record_failure(execution, "effect", deed.call, deed.attempt, deed.intent_at, error) from error


async def _settle(execution: Execution, deed: Deed) -> Any:
    """Settle a doubt: what the lookup found, or ``_ABSENT`` when it may be sent (again)."""
    call, found = deed.call, _ABSENT
    finding: effects.Finding = "unknown"
    while True:
        now = execution.clock.now_ms()
        move = effects.recover(
            deed.doubt,
            deadline_at=deed.deadline_at,
            now=now,
            expired=deed.expired,
            finding=finding,
        )
        match move:
            case effects.Accept():
                return found
            case effects.Act():
                return _ABSENT
            case effects.Ask():
                raise await execution.ask(call.pos, call.name)
            case effects.Hold(until):
                await execution.waits.pause(call.pos, call.name, deed.attempt - 1, until, None)
                finding = "unknown"  # what was absent before the deadline may be there now
            case effects.Look():
                found = await _look(execution, deed)
                finding = "absent" if found is None else "found"


async def _look(execution: Execution, deed: Deed) -> Any:
    """Ask whether it happened, patiently; a person is asked when the lookup itself keeps failing."""
    call = deed.call
    asking = Call(deed.lookup, look_at(deed.lookup), call.pos, call.name, b"", (deed.key,), {}, call.timeout_s, None)
    for attempt in range(1, deed.policy.attempts + 1):
        try:
            return await invoke(execution, asking, deed.lookup, attempt)
        except Exception as error:  # noqa: BLE001 - a lookup may raise anything
            until = execution.clock.now_ms() + retry.pause(attempt, deed.policy, execution.chance)
            await execution.waits.pause(call.pos, call.name, deed.attempt - 1, until, error)
    raise await execution.ask(call.pos, call.name)
