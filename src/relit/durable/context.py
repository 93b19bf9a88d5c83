"""``ctx``: what a workflow does its work through. Thin: the execution behind it does everything."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar, overload

from relit.durable import calls, inputs
from relit.durable.acting import run_effect
from relit.durable.awaitables import Pending, Recalled
from relit.durable.definitions import Agent, Workflow
from relit.durable.ending import Continued
from relit.durable.execution import Execution
from relit.durable.functions import look_at
from relit.durable.invoke import Call
from relit.durable.recorder import Dropped
from relit.durable.retry import Retry
from relit.durable.scope import PLACE, Frame
from relit.durable.steps import run_step
from relit.durable.targets import Target, definition, moment, new_run, split
from relit.errors import ConfigError, Conflict, JournalMismatch, WaitTimeout
from relit.lib.durations import Duration, to_ms
from relit.store.values import Doubt, Step

T = TypeVar("T")

_DEFAULT_RETRY = Retry()
_RAISE: Any = object()


class Context:
    """A run's hand on the world. Every call is recorded once and answered from the journal ever after.

    Calls return awaitables whose position in the journal is taken when they are *made*, so
    ``ctx.gather(ctx.step(a), ctx.step(b))`` is the same on every replay.
    """

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    @property
    def run_id(self) -> str:
        """This run's id."""
        return self._execution.run.id

    @property
    def attempt(self) -> int:
        """1, or more when the run failed before and was tried again."""
        return self._execution.run.attempt

    @property
    def home(self) -> Path:
        """The agent's own folder on this machine, the same for all its runs. relit keeps versions of it.

        What it held is no part of the journal: a replay finds the files as they are now. Raises ``ConfigError`` where
        the engine was made without a data folder.
        """
        execution = self._execution
        if execution.home is None:
            raise ConfigError(
                f"{execution.run.agent} has no home",
                why="this engine has no data folder",
                fix="Engine(…, home=…), or let relit run it: relit up",
            )
        return execution.home(execution.run.agent)

    def _match(self, pos: str, kind: str, name: str, hash: bytes) -> Step | None:
        replay = self._execution.replay
        if replay is None:
            return None
        try:
            return replay.match(pos, kind, name, hash)
        except JournalMismatch as error:
            self._execution.diverged(error)
            raise

    @overload
    def step(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        heartbeat: Duration | None = None,
        **kwargs: Any,
    ) -> Awaitable[T]: ...

    @overload
    def step(
        self,
        fn: Callable[..., T],
        *args: Any,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        heartbeat: Duration | None = None,
        **kwargs: Any,
    ) -> Awaitable[T]: ...

    def step(
        self,
        fn: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        heartbeat: Duration | None = None,
        **kwargs: Any,
    ) -> Awaitable[Any]:
        """Call ``fn(*args, **kwargs)`` once and record what it returns. An ordinary function runs in a thread.

        It is tried again as ``retry`` says (3 times by default), each time within ``timeout``; with ``heartbeat`` it
        must call ``relit.heartbeat()`` at least that often. Raises ``StepFailed`` when it failed for good.
        """
        execution = self._execution
        function = look_at(fn)
        pos = execution.scope().take()
        name = name or function.name
        hash = execution.hash(args, kwargs)
        if execution.replay is not None and (step := self._match(pos, "step", name, hash)) is not None:
            return Recalled(execution, step, function.type)
        options = function.options
        call = Call(
            fn, function, pos, name, hash, args, kwargs, timeout or options.timeout, heartbeat or options.heartbeat
        )
        return Pending(run_step, execution, call, retry or options.retry or _DEFAULT_RETRY)

    @overload
    def effect(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
        doubt: Doubt | None = None,
        lookup: Callable[..., Any] | None = None,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        **kwargs: Any,
    ) -> Awaitable[T]: ...

    @overload
    def effect(
        self,
        fn: Callable[..., T],
        *args: Any,
        doubt: Doubt | None = None,
        lookup: Callable[..., Any] | None = None,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        **kwargs: Any,
    ) -> Awaitable[T]: ...

    def effect(
        self,
        fn: Callable[..., Any],
        *args: Any,
        doubt: Doubt | None = None,
        lookup: Callable[..., Any] | None = None,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        **kwargs: Any,
    ) -> Awaitable[Any]:
        """Change the outside world: an intent is on disk before ``fn`` is called, a receipt after.

        After a crash between the two, ``doubt`` decides: ``"key"`` calls again with the same ``idempotency_key``
        (a parameter that ``fn`` must have), ``"lookup"`` asks ``lookup(key)`` first (``None``: it did not happen),
        ``"ask"`` (the default) parks the run for a person. One call takes at most ``timeout`` (60 s).
        """
        execution = self._execution
        function = look_at(fn)
        options = function.options
        name = name or function.name
        doubt = doubt or options.doubt or "ask"
        lookup = lookup or options.lookup
        _check_doubt(name, doubt, lookup, function.takes_key or "idempotency_key" in kwargs)
        pos = execution.scope().take()
        hash = execution.hash(args, kwargs)
        if execution.replay is not None and (step := self._match(pos, "effect", name, hash)) is not None:
            return Recalled(execution, step, function.type)
        call = Call(fn, function, pos, name, hash, args, kwargs, timeout or options.timeout or "60s", None)
        return Pending(run_effect, execution, call, doubt, lookup, retry or options.retry or _DEFAULT_RETRY)

    def sleep(self, duration: Duration) -> Awaitable[None]:
        """Wait. A long sleep costs a row, not memory, and survives everything."""
        return self._sleep(self._execution.clock.now_ms() + to_ms(duration))

    def sleep_until(self, at: datetime | int) -> Awaitable[None]:
        """Wait until a moment: a ``datetime`` with a zone, or ms since 1970."""
        until = moment(at)
        assert until is not None, "sleep_until is given a moment"
        return self._sleep(until)

    def _sleep(self, until: int) -> Awaitable[None]:
        execution = self._execution
        pos = execution.scope().take()
        step = self._match(pos, "sleep", "sleep", b"")
        if step is not None:
            return Recalled(execution, step, Any)
        return Pending(calls.run_sleep, execution, pos, until)

    def signal(
        self, name: str, timeout: Duration | None = None, type: Any = Any, default: Any = _RAISE
    ) -> Awaitable[Any]:
        """The next signal of that name, in order of arrival. Raises ``WaitTimeout``, or answers ``default``."""
        execution = self._execution
        pos = execution.scope().take()
        step = self._match(pos, "signal", name, b"")
        timeout_ms = None if timeout is None else to_ms(timeout)
        answer: Awaitable[Any] = (
            Pending(calls.run_signal, execution, pos, name, timeout_ms, type)
            if step is None
            else Recalled(execution, step, type)
        )
        return answer if default is _RAISE else Pending(_or_default, answer, default)

    @overload
    def child(self, target: Workflow[T] | Agent[T], *args: Any, **kwargs: Any) -> Awaitable[T]: ...

    @overload
    def child(self, target: str, *args: Any, **kwargs: Any) -> Awaitable[Any]: ...

    def child(self, target: Target, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Run another workflow as a run of its own, and wait for its result. Raises RunFailed, RunCancelled.

        It is cancelled when this run is. ``child_timeout`` (a keyword) limits it.
        """
        execution = self._execution
        timeout = kwargs.pop("child_timeout", None)
        pos = execution.scope().take()
        hash = execution.hash(args, kwargs)
        known = definition(target)
        type = Any if known is None else known.type
        step = self._match(pos, "child", "/".join(split(target)), hash)
        if step is not None:
            return Recalled(execution, step, type)
        return Pending(self._child, target, args, kwargs, pos, hash, type, timeout)

    async def _child(
        self, target: Target, args: Any, kwargs: Any, pos: str, hash: bytes, type: Any, timeout: Duration | None
    ) -> Any:
        execution = self._execution
        data = await inputs.encode(execution.payloads, args, kwargs)
        id_ = execution.own_id(pos, "/".join(split(target)), hash)
        child = new_run(target, data, id=id_, timeout=timeout, parent=execution.run.id, parent_pos=pos)
        return await calls.run_child(execution, pos, child, hash, type)

    def send(
        self,
        agent: Target,
        message: Any,
        *,
        delay: Duration | None = None,
        key: str | None = None,
        priority: int = 50,
        expire: Duration | None = None,
    ) -> Awaitable[str]:
        """Put a message into an agent's mailbox, once; answers the id of its run. Waits while the mailbox is full."""
        execution = self._execution
        pos = execution.scope().take()
        hash = execution.hash((message,), {})
        step = self._match(pos, "send", "/".join(split(agent)), hash)
        if step is not None:
            return Recalled(execution, step, str)
        options = {"delay": delay, "key": key, "priority": priority, "expire": expire}
        return Pending(self._send, agent, message, options, pos, hash)

    async def _send(self, agent: Target, message: Any, options: dict[str, Any], pos: str, hash: bytes) -> str:
        execution = self._execution
        data = await inputs.encode(execution.payloads, (message,), {})
        run = new_run(agent, data, id=execution.own_id(pos, "/".join(split(agent)), hash), **options)
        return await calls.run_send(execution, pos, run, hash)

    def gather(self, *works: Awaitable[Any], return_exceptions: bool = False) -> Awaitable[list[Any]]:
        """Do several things at once: steps, waits, or coroutines of your own that use this context.

        Waits for all of them, then answers their results in order or raises the first branch's error. Waiting in a
        gather costs no memory, unlike in ``asyncio.gather``.
        """
        scope = self._execution.scope()
        pos = scope.take()
        return Pending(calls.run_gather, self._execution, scope, pos, works, return_exceptions)

    def emit(self, data: Any, *, goes_on: bool = False) -> None:
        """Add an item (progress, a token) to the run's stream, for whoever follows it. Not awaited.

        A step that is tried again emits under a higher ``attempt``: what it emitted before counts no more. With
        ``goes_on`` it does: the step has looked at it (``emitted``).
        """
        place = PLACE.get()
        if isinstance(place, Frame) and place.execution is self._execution:
            self._execution.emit(place.pos, 1 if goes_on else place.attempt, -1, data)
            return
        scope = self._execution.scope()
        scope.emitted += 1
        self._execution.emit(scope.name, self.attempt, scope.emitted - 1, data)

    def emitted(self) -> AsyncIterator[Any]:
        """Whatever the run has emitted so far, by whichever worker, oldest first: all that its followers can have.
        For a step that goes on from there; outside of one it is not recorded."""
        return self._execution.emitted()

    def _value(self, name: str, make: Callable[[], Any]) -> Any:
        execution = self._execution
        pos = execution.scope().take()
        step = self._match(pos, "value", name, b"")
        if step is not None and step.result is not None:
            return execution.payloads.unpack(step.result)
        if execution.closed:
            raise Dropped("the run has been let go of")
        value = make()
        execution.recorder.note(pos, "value", name, execution.payloads.pack(value))
        return value

    def now(self) -> datetime:
        """The time at which the run came here first, in UTC."""
        ms = self._value("now", self._execution.clock.now_ms)
        return datetime.fromtimestamp(ms / 1000, UTC)

    def random(self) -> float:
        """A random number in [0, 1), the same on every replay."""
        value: float = self._value("random", self._execution.chance.random)
        return value

    def uuid(self) -> uuid.UUID:
        """A random UUID, the same on every replay."""
        bits = self._value("uuid", lambda: self._execution.chance.getrandbits(128).to_bytes(16, "big"))
        return uuid.UUID(bytes=bits, version=4)

    def parked(self) -> Awaitable[list[str]]:
        """Earlier messages of this mailbox that wait for a person, oldest first: ids of runs (at most 100).

        Such a run has given up its place, so this one may be overtaking it. Recorded like a step.
        """
        execution = self._execution

        async def parked() -> list[str]:
            run, store = execution.run, execution.recorder.store
            found = await store.runs(agent=run.agent, states=("parked",), before=run.id, limit=100)
            return [each.id for each in reversed(found) if run.mailbox and each.mailbox == run.mailbox]

        return self.step(parked)

    def patched(self, id: str) -> bool:
        """Guard a change to a workflow that has runs under way: true for runs that have not come this far yet.

        ``if ctx.patched("ask-twice"): new code; else: old code``. The answer stays the same within a run.
        """
        execution = self._execution
        scope = execution.scope()
        if execution.replay is None:
            answer, known = True, id in execution.marks
        else:
            answer = execution.replay.patched(id, scope.name, scope.count, scope.enclosing())
            known = id in execution.marks or id in execution.replay.marks
        if answer and not known:
            execution.marks.add(id)
            execution.recorder.note(f"patch:{id}", "patch", id, calls.NOTHING)
        return answer

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End this run and go on as a new one with these arguments and an empty journal.

        The new run keeps the place in the mailbox, unread signals, the parent and whoever waits for the result.
        """
        execution = self._execution
        execution.scope()
        execution.stop(Continued(args, kwargs))
        raise Dropped("the run goes on as a new one")


async def _or_default(answer: Awaitable[Any], default: Any) -> Any:
    try:
        return await answer
    except WaitTimeout:
        return default


def _check_doubt(name: str, doubt: Doubt, lookup: Any, takes_key: bool) -> None:
    if doubt == "key" and not takes_key:
        raise Conflict(
            f"the effect {name!r} cannot be of the class 'key'",
            why="it takes no parameter `idempotency_key`",
            fix="add the parameter and send it along, or choose doubt='lookup' or 'ask'",
        )
    if doubt == "lookup" and lookup is None:
        raise Conflict(
            f"the effect {name!r} cannot be of the class 'lookup'",
            why="no lookup function was given",
            fix="pass lookup=, a function of the idempotency key",
        )
