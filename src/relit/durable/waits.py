"""What a run waits for: as rows when nothing else goes on in it, in memory while something does.

A run is let go of (its coroutine dropped, its waits written as rows) when every task of its workflow stands in a
wait. A task that stands anywhere else keeps the run in memory, and its waits are served here.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import msgspec

from relit.durable import faults
from relit.durable.faults import Fault
from relit.store.values import Run, Signal, Wait, WaitKind

if TYPE_CHECKING:
    from relit.durable.execution import Execution

_QUIET_PASSES = 3  # of the event loop without a call before the run counts as quiet
_AGAIN_S = 0.05
_POLL_S = 5.0
IN_MEMORY_MS = 5_000  # a shorter pause before a retry is not worth a row


class Pause(msgspec.Struct, frozen=True):
    """What a retry's wait remembers."""

    attempt: int
    error: Fault | None = None


_pauses = msgspec.msgpack.Decoder(Pause)


class Waiting:
    """One wait of the workflow. ``found``: the signal or the finished child; ``None``: its time came."""

    __slots__ = ("data", "found", "future", "kind", "name", "pos", "wake_at")

    def __init__(
        self, pos: str, kind: WaitKind, name: str = "", wake_at: int | None = None, data: bytes | None = None
    ) -> None:
        self.pos = pos
        self.kind: WaitKind = kind
        self.name = name
        self.wake_at = wake_at
        self.data = data
        self.found: Signal | Run | None = None
        self.future: asyncio.Future[None] | None = None

    def row(self) -> Wait:
        return Wait(pos=self.pos, kind=self.kind, name=self.name, wake_at=self.wake_at, data=self.data)


class Waits:
    """The waits of one execution."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self.pending: dict[str, Waiting] = {}
        self.blocked: set[asyncio.Task[Any] | None] = set()
        self.signals: list[Signal] = []
        self.children: dict[str, Run] = {}
        self._taken: set[str] = set()
        self._checking = False
        self._suspending = False
        self._server: asyncio.Task[None] | None = None

    async def wait(self, waiting: Waiting) -> Signal | Run | None:
        """Wait; called between ``begin`` and ``end`` of a call, which it steps out of for as long as it waits."""
        if self._look(waiting, self._execution.clock.now_ms()):
            return waiting.found
        execution, task = self._execution, asyncio.current_task()
        waiting.future = execution.loop.create_future()
        self.pending[waiting.pos] = waiting
        self.blocked.add(task)
        execution.inflight -= 1
        self.consider()
        try:
            await waiting.future
        except asyncio.CancelledError:
            if isinstance(waiting.found, Signal):  # it came, but the workflow has stopped waiting: it stays unread
                self._taken.discard(waiting.found.id)
                self.signals.insert(0, waiting.found)
            raise
        finally:
            self.blocked.discard(task)
            if self.pending.pop(waiting.pos, None) is not None:  # given up by the workflow, not resolved
                execution.inflight += 1
        return waiting.found

    async def pause(self, pos: str, name: str, attempt: int, until: int, error: BaseException | None) -> None:
        """Wait before another try at ``pos``, as a row when it is long."""
        left = until - self._execution.clock.now_ms()
        if left <= IN_MEMORY_MS:
            await asyncio.sleep(max(0, left) / 1000)
            return
        fault = None if error is None else msgspec.structs.replace(faults.describe(error), traceback="")
        data = b"\x01" + msgspec.msgpack.encode(Pause(attempt, fault))
        await self.wait(Waiting(pos, "retry", name, until, data))

    def resume(self, pos: str) -> tuple[int, int | None]:
        """The number of the try that is due at ``pos``, and the moment it may start."""
        replay = self._execution.replay
        wait = None if replay is None or not replay.waits else replay.wait(pos)
        if wait is None or wait.data is None:
            return 1, None
        return _pauses.decode(memoryview(wait.data)[1:]).attempt + 1, wait.wake_at

    # --- resolving ---------------------------------------------------------------------------------------------

    def arrive(self, signals: list[Signal], children: dict[str, Run]) -> None:
        """Take note of what came from outside."""
        self.signals = [signal for signal in signals if signal.id not in self._taken]
        self.children.update(children)

    def _look(self, waiting: Waiting, now: int) -> bool:
        if waiting.kind == "signal":
            for i, signal in enumerate(self.signals):
                if signal.name == waiting.name:
                    self._taken.add(signal.id)
                    waiting.found = self.signals.pop(i)
                    return True
        elif waiting.kind == "child" and waiting.name in self.children:
            waiting.found = self.children.pop(waiting.name)
            return True
        return waiting.wake_at is not None and waiting.wake_at <= now

    def _resolve(self, now: int) -> bool:
        ready = [waiting for waiting in self.pending.values() if self._look(waiting, now)]
        for waiting in ready:
            del self.pending[waiting.pos]
            self._execution.inflight += 1  # it goes on: the run is not quiet until it waits again
            assert waiting.future is not None, "a pending wait has a future"
            if not waiting.future.done():
                waiting.future.set_result(None)
        return bool(ready)

    # --- letting go --------------------------------------------------------------------------------------------

    def consider(self) -> None:
        """Something may have become quiet: look in a few passes of the loop."""
        if self._checking or not (self.pending or self._execution.pausing):
            return
        self._checking = True
        self._execution.loop.call_soon(self._check, _QUIET_PASSES, self._execution.activity)

    def _check(self, passes: int, seen: int) -> None:
        execution = self._execution
        if passes > 0 or execution.activity != seen:
            left = passes - 1 if execution.activity == seen else _QUIET_PASSES
            execution.loop.call_soon(self._check, left, execution.activity)
            return
        self._checking = False
        if execution.closed or self._suspending:
            return
        if execution.pausing and execution.inflight == 0:
            execution.park("paused")
        elif self.pending and execution.inflight == 0 and execution.own <= self.blocked:
            self._suspending = execution.barred = True
            execution.spawn(self._suspend)
        elif self.pending:
            self._serve_in_memory()

    async def _suspend(self) -> None:
        execution = self._execution
        if self._server is not None:
            self._server.cancel()
        try:
            rows = [waiting.row() for waiting in self.pending.values()]
            if await execution.recorder.suspend(rows, _reason(rows)):
                execution.suspended()
                return
            found = await self._refresh()
        finally:
            self._suspending = False
            execution.unbar()
        if not found and not execution.closed:  # clocks differ, or a request is on its way
            self._serve_in_memory()
            execution.loop.call_later(_AGAIN_S, self.consider)

    async def _refresh(self) -> bool:
        """Read what has come, and hand it out. True when somebody got something."""
        execution = self._execution
        store, run = execution.recorder.store, execution.run.id
        came = await execution.recorder.insist(lambda: store.arrivals(run))
        self.arrive(came.signals, came.children)
        for waiting in list(self.pending.values()):
            if waiting.kind == "child" and waiting.name not in self.children:
                await self._look_after(waiting)
        now = await execution.recorder.insist(store.now_ms)
        if self._resolve(now):
            return True
        stands = await execution.recorder.insist(lambda: store.run(run))
        execution.requested(stands.request, stands.reason)
        return False

    async def _look_after(self, waiting: Waiting) -> None:
        """A child that is waited for in memory: has it ended, or gone on as another run?"""
        recorder = self._execution.recorder
        child = await recorder.insist(functools.partial(recorder.store.run, waiting.name))
        while child.continued_to is not None:
            child = await recorder.insist(functools.partial(recorder.store.run, child.continued_to))
        waiting.name = child.id
        if child.final:
            self.children[child.id] = child

    def _serve_in_memory(self) -> None:
        if self._server is not None:
            self._server.cancel()  # it listens for the waits of a moment ago
        self._server = self._execution.spawn(self._serve)

    async def _serve(self) -> None:
        execution = self._execution
        topics = [f"end:{waiting.name}" for waiting in self.pending.values() if waiting.kind == "child"]
        subscription = execution.recorder.store.subscribe(f"run:{execution.run.id}", *topics)
        try:
            while self.pending and not self._suspending and not execution.closed:
                await self._refresh()
                await subscription.wait(self._until_next())
        finally:
            subscription.close()

    def _until_next(self) -> float:
        moments = [waiting.wake_at for waiting in self.pending.values() if waiting.wake_at is not None]
        if not moments:
            return _POLL_S
        return min(_POLL_S, max(0.005, (min(moments) - self._execution.clock.now_ms()) / 1000))


def _reason(rows: list[Wait]) -> str:
    words = {"timer": "sleep", "signal": "signal", "child": "child", "retry": "retry of"}
    return ", ".join(f"{words[row.kind]} {row.name}".strip() for row in rows[:5])
