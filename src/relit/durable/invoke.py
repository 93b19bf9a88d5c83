"""Calls a step's function once: in this task or in a thread, within its limits."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from typing import TYPE_CHECKING, Any

from relit.durable.functions import Function
from relit.durable.scope import PLACE, Frame
from relit.errors import StepHung, StepTimeout
from relit.lib.durations import Duration, human, to_ms

if TYPE_CHECKING:
    from relit.durable.execution import Execution


class Call:
    """One call of a step or effect, with the options that hold for it."""

    __slots__ = ("args", "fn", "function", "hash", "heartbeat_s", "kwargs", "limit_s", "name", "pos", "timeout_s")

    def __init__(
        self,
        fn: Any,
        function: Function,
        pos: str,
        name: str,
        hash: bytes,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: Duration | None,
        heartbeat: Duration | None,
    ) -> None:
        self.fn = fn
        self.function = function
        self.pos = pos
        self.name = name
        self.hash = hash
        self.args = args
        self.kwargs = kwargs
        self.timeout_s = None if timeout is None else to_ms(timeout) / 1000
        self.limit_s = self.timeout_s  # of this attempt: what is left of it
        self.heartbeat_s = None if heartbeat is None else to_ms(heartbeat) / 1000


async def invoke(execution: Execution, call: Call, fn: Any, attempt: int) -> Any:
    """What ``fn`` returns. Raises StepTimeout, StepHung, or whatever it raises."""
    frame = Frame(execution, call.pos, attempt)
    token = PLACE.set(frame)
    try:
        if call.timeout_s is None and call.heartbeat_s is None:
            if call.function.is_async:
                return await fn(*call.args, **call.kwargs)
            return await _in_thread(execution, fn, call.args, call.kwargs)
        return await _limited(execution, call, fn, frame)
    finally:
        PLACE.reset(token)


async def _in_thread(execution: Execution, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    work = functools.partial(fn, *args, **kwargs)
    value = await execution.threads.run(work, contextvars.copy_context())
    return await value if inspect.isawaitable(value) else value


async def _limited(execution: Execution, call: Call, fn: Any, frame: Frame) -> Any:
    try:
        async with asyncio.timeout(call.limit_s) as total, asyncio.timeout(call.heartbeat_s) as patience:
            if call.heartbeat_s is not None:
                frame.patience, frame.silence_s = patience, call.heartbeat_s
            if call.function.is_async:
                return await fn(*call.args, **call.kwargs)
            return await _in_thread(execution, fn, call.args, call.kwargs)
    except TimeoutError as error:
        if total.expired():
            raise _timeout(call) from error
        if patience.expired():
            raise _hung(call) from error
        raise
    finally:
        frame.patience = None


def _timeout(call: Call) -> StepTimeout:
    limit = human((call.timeout_s or 0) * 1000)
    return StepTimeout(
        f"{call.name!r} (position {call.pos}) took longer than {limit}",
        why="one attempt may take no longer than its timeout",
        fix="raise timeout=, or give the step a heartbeat",
    )


def _hung(call: Call) -> StepHung:
    limit = human((call.heartbeat_s or 0) * 1000)
    return StepHung(
        f"{call.name!r} (position {call.pos}) sent no heartbeat for {limit}",
        why="it promised to call relit.heartbeat() more often than that",
        fix="call relit.heartbeat() in its loops, or raise heartbeat=",
    )
