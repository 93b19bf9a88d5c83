"""Starts runs, sends messages, awaits results: what the API, the CLI's server and other code do with the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from relit.durable import faults, inputs
from relit.durable.payload import Payloads
from relit.durable.targets import Target, definition, new_run
from relit.errors import RunCancelled, RunFailed, RunTimeout, WaitTimeout
from relit.lib import crashpoints
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.durations import Duration, human, to_ms
from relit.lib.ids import derived_id, new_id
from relit.store.base import Store
from relit.store.values import Effect, Enqueued, NewRun, Run, Signal, Step, Wait

_POLL_S = 5.0


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A run with all that is known of it."""

    run: Run
    steps: list[Step]
    waits: list[Wait]
    effects: list[Effect]


class Engine:
    """The durable runs in one store."""

    def __init__(
        self,
        store: Store,
        payloads: Payloads,
        *,
        ids: Callable[[], str] = new_id,
        clock: Clock = SYSTEM_CLOCK,
        home: Callable[[str], Path] | None = None,
    ) -> None:
        self.store = store
        self.payloads = payloads
        self.ids = ids
        self.clock = clock
        self.home = home  # makes an agent's home, if need be

    async def make(
        self,
        target: Target,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        **options: Any,
    ) -> NewRun:
        """A run, not enqueued yet. ``options`` as in ``relit.durable.targets.new_run``."""
        named = dict(kwargs or {})
        known = definition(target)
        if known is not None:
            inputs.check(known, args, named)
        data = await inputs.encode(self.payloads, args, named)
        return new_run(target, data, id=id or self.ids(), **options)

    async def start(
        self, target: Target, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> str:
        """Start a run; it is on disk when this answers its id."""
        return (await self.enqueue([await self.make(target, args, kwargs, **options)]))[0].id

    async def send(self, agent: Target, message: Any, **options: Any) -> Enqueued:
        """Put a message into an agent's mailbox. Raises ``MailboxFull``."""
        return (await self.enqueue([await self.make(agent, (message,), **options)]))[0]

    async def enqueue(self, runs: Sequence[NewRun]) -> list[Enqueued]:
        """Make runs in one commit, all or none."""
        crashpoints.point("enqueue.before")
        made = await self.store.enqueue(runs)
        crashpoints.point("enqueue.after")
        return made

    async def signal(self, run: str, name: str, payload: Any = None, id: str | None = None) -> bool:
        """Deliver a signal. False: a signal with that id was sent to this run before."""
        sent = self.new_signal(run, name, await self.payloads.encode(payload), id)
        crashpoints.point("signal.before")
        fresh = await self.store.signal(sent)
        crashpoints.point("signal.after")
        return fresh

    def new_signal(self, run: str, name: str, payload: bytes, id: str | None = None) -> Signal:
        """A signal, not delivered yet. The sender's ``id`` counts for this run only: another run's is another."""
        own = self.ids() if id is None else derived_id("signal", run, id)
        return Signal(id=own, run=run, name=name, payload=payload, at=self.clock.now_ms())

    async def fork(self, run: str, step: int | None = None, args: Sequence[Any] | None = None) -> str:
        """A new run that starts with the first ``step`` recorded steps of ``run`` (all of them when ``None``)."""
        data = None if args is None else await inputs.encode(self.payloads, args, {})
        return (await self.store.fork(run, step, self.ids(), data)).id

    async def resolve(self, run: str, pos: str, happened: bool, result: Any = None) -> Run:
        """A person's word on an effect in doubt."""
        return await self.store.resolve(run, pos, await self.payloads.encode(result) if happened else None)

    async def describe(self, run: str, steps: int = 1000) -> Description:
        """The run with its journal (the first ``steps``), waits and effects. Raises ``NotFound``."""
        found = await self.store.run(run)
        return Description(
            run=found,
            steps=await self.store.steps(run, limit=steps),
            waits=await self.store.waits(run),
            effects=await self.store.effects(run=run, states=("open", "in_doubt", "done", "failed", "kept")),
        )

    async def wait(self, run: str, timeout: Duration | None = None) -> Run:
        """The run once it is final; a continued run's successor. Raises ``WaitTimeout``."""
        limit = None if timeout is None else self.clock.monotonic() + to_ms(timeout) / 1000
        subscription, listening = self.store.subscribe(f"end:{run}"), run
        try:
            while True:
                found = await self.store.run(run)
                if found.continued_to is not None:
                    run = found.continued_to
                    continue
                if found.final:
                    return found
                if run != listening:
                    subscription.close()
                    subscription, listening = self.store.subscribe(f"end:{run}"), run
                    continue
                left = _POLL_S if limit is None else min(_POLL_S, limit - self.clock.monotonic())
                if left <= 0:
                    raise _not_yet(found, timeout)
                await subscription.wait(left)
        finally:
            subscription.close()

    async def result(self, run: str, timeout: Duration | None = None, type: Any = Any) -> Any:
        """What the run returned. Raises RunFailed, RunCancelled, RunTimeout, WaitTimeout."""
        found = await self.wait(run, timeout)
        if found.state == "completed":
            return None if found.output is None else await self.payloads.decode(found.output, type)
        raise failure(found)


def failure(run: Run) -> RunFailed | RunCancelled | RunTimeout:
    """The error of a run that ended without a result."""
    if run.state == "cancelled":
        return RunCancelled(f"run {run.id} was cancelled", why=run.reason or "", fix=f"relit retry {run.id}")
    fault = None if run.error is None else faults.load(run.error)
    why = (run.reason or run.state) if fault is None else "\n".join(filter(None, [faults.summary(fault), fault.why]))
    if fault is not None and fault.type == RunTimeout.__name__:
        return RunTimeout(f"run {run.id} ran out of time", why=fault.why, fix=f"relit retry {run.id}")
    return RunFailed(f"run {run.id} ({run.target}) failed", why=why, fix=f"relit show {run.id}")


def _not_yet(run: Run, timeout: Duration | None) -> WaitTimeout:
    return WaitTimeout(
        f"run {run.id} has not ended after {human(to_ms(timeout or 0))}",
        why=f"it is {run.state}" + (f" ({run.reason})" if run.reason else ""),
        fix=f"relit wait {run.id}",
    )
