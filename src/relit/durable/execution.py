"""One claimed run: its workflow as a task, its journal, and how the claim ends.

Whatever ends the claim (the workflow returns, fails, waits; it is cancelled, paused, parked, fenced) is a verdict.
The first one counts: from then on the context refuses every call, the workflow's tasks are cancelled, and the
verdict is written down. A verdict of ``LOST`` writes nothing: the run is somebody else's.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from relit.durable import ending, faults
from relit.durable.definitions import Workflow
from relit.durable.ending import SUSPENDED, Cancelled, Completed, Failed, Lost, Parked, Suspended, Verdict
from relit.durable.inputs import arguments
from relit.durable.payload import Payloads
from relit.durable.recorder import Dropped, Recorder
from relit.durable.replay import Replay
from relit.durable.scope import PLACE, Frame, Scope
from relit.durable.streams import Stream
from relit.durable.threads import Threads
from relit.durable.waits import Waits
from relit.errors import Conflict, EffectInDoubt, JournalMismatch, RunTimeout
from relit.lib import crashpoints
from relit.lib.clock import Clock
from relit.lib.ids import derived_id
from relit.lib.service import Tasks
from relit.store.values import Fence, Journal, Request, Run, StreamItem

log = logging.getLogger("relit.durable")

_BEAT_EVERY_S = 5.0
_STUBBORN_S = 5.0


class Services(msgspec.Struct, frozen=True):
    """What executions of one worker share."""

    payloads: Payloads
    clock: Clock
    chance: Random
    threads: Threads
    home: Callable[[str], Path] | None = None


class Execution:
    """Drives one run from its claim to the claim's end. ``drive`` is its whole life."""

    def __init__(self, run: Run, workflow: Workflow[Any], recorder: Recorder, services: Services) -> None:
        self.run = run
        self.workflow = workflow
        self.recorder = recorder
        self.payloads = services.payloads
        self.clock = services.clock
        self.chance = services.chance
        self.threads = services.threads
        self.home = services.home
        self.loop = asyncio.get_running_loop()
        self.replay: Replay | None = None
        self.waits = Waits(self)
        self.main = Scope(self, "", None, None)
        self.own: set[asyncio.Task[Any] | None] = set()
        self.marks: set[str] = set()
        self.inflight = 0
        self.activity = 0
        self.closed = False
        self.barred = False
        self.pausing = False
        self._bar: asyncio.Future[None] | None = None
        self._verdict: asyncio.Future[Verdict] = self.loop.create_future()
        self._tasks = Tasks(self._crashed)
        self._beaten_at = 0.0
        self._streamed = 0

    # --- life --------------------------------------------------------------------------------------------------

    async def drive(self, context: Any) -> Verdict:
        """Run the workflow and bring the claim to its end."""
        deadline = self._arm_deadline()
        try:
            if self.run.epoch > 1:  # the first claim of a new run: there is no history to read
                await self._load()
            self.spawn(lambda: self._body(context))
            verdict = await asyncio.shield(self._verdict)
        except Dropped:
            verdict = self._verdict.result() if self._verdict.done() else Lost()
        except asyncio.CancelledError:
            self.stop(Lost())
            raise
        finally:
            self.closed = self.barred = True
            if deadline is not None:
                deadline.cancel()
            await self._close()
        return await self._conclude(verdict)

    def _arm_deadline(self) -> asyncio.TimerHandle | None:
        if self.run.deadline_at is None:
            return None
        left = max(0, self.run.deadline_at - self.clock.now_ms()) / 1000
        return self.loop.call_later(left, self._overdue)

    def _overdue(self) -> None:
        error = RunTimeout(
            f"run {self.run.id} ran out of time", why="its time limit has passed", fix=f"relit retry {self.run.id}"
        )
        self.stop(Failed(error))

    async def _load(self) -> None:
        crashpoints.point("journal.before")
        journal: Journal = await self.recorder.insist(lambda: self.recorder.store.journal(self.run.id))
        crashpoints.point("journal.after")
        self.waits.arrive(journal.signals, journal.children)
        self._streamed = journal.streamed
        if journal.steps or journal.waits or journal.effects:
            self.replay = Replay(journal)
            self.recorder.seq = self.replay.last_seq

    async def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return await arguments(self.workflow, self.payloads, self.run.input)

    async def _body(self, context: Any) -> None:
        self.main.task = asyncio.current_task()
        self.own.add(self.main.task)
        PLACE.set(self.main)
        try:
            args, kwargs = await self.recorder.insist(self._arguments)
            self.stop(Completed(await self.workflow.fn(context, *args, **kwargs)))
        except asyncio.CancelledError as error:
            if not self.closed:
                self.stop(Failed(error))
        except Exception as error:  # noqa: BLE001 - whatever a workflow raises is how its run ends
            self.stop(Failed(error))

    def stop(self, verdict: Verdict) -> None:
        """End the claim with ``verdict``, unless another came first."""
        if not self._verdict.done():
            self.closed = self.barred = True
            self._verdict.set_result(verdict)

    async def _close(self) -> None:
        """Cancel the workflow's tasks. Code that swallows its cancellation is left behind after a while."""
        try:
            async with asyncio.timeout(_STUBBORN_S):
                await self._tasks.stop()
        except TimeoutError:
            log.warning("run %s: %s does not stop when cancelled", self.run.id, self.workflow)

    async def _conclude(self, verdict: Verdict) -> Verdict:
        if isinstance(verdict, (Lost, Suspended)):
            return verdict
        try:
            await self.recorder.finish(await ending.settle(self, verdict))
        except Dropped:
            return Lost()
        return verdict

    def _crashed(self, error: BaseException) -> None:
        """A fault of ours, not of the workflow: the run is set aside where a person sees it."""
        log.error("run %s: internal error", self.run.id, exc_info=error)
        self.stop(Parked("internal-error", faults.describe(error)))

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """A background task of this execution."""
        return self._tasks.spawn(work(), name=f"relit-run-{self.run.id}")

    # --- ends that come from outside or from calls ---------------------------------------------------------------

    def cancel(self, reason: str) -> None:
        """The run was cancelled."""
        self.stop(Cancelled(reason))

    def abandon(self) -> None:
        """Write nothing more: the run is lost, or given back."""
        self.stop(Lost())

    def suspended(self) -> None:
        """The run waits as rows."""
        self.stop(SUSPENDED)

    def park(self, reason: str, error: BaseException | None = None) -> None:
        """Set the run aside for a person."""
        self.stop(Parked(reason, None if error is None else faults.describe(error)))

    def pause(self) -> None:
        """Park at the next boundary between steps."""
        self.pausing = self.barred = True
        self.waits.consider()

    def requested(self, request: Request | None, reason: str | None) -> None:
        """What the store says was asked of this run."""
        if request == "cancel":
            self.cancel(reason or "cancelled")
        elif request == "pause" and not self.pausing:
            self.pause()

    def diverged(self, error: JournalMismatch) -> None:
        """The code no longer matches the journal."""
        self.park("journal-mismatch", error)

    def lost(self) -> Dropped:
        """The lease is gone. Answers what to raise."""
        self.abandon()
        return Dropped("the worker's lease is lost")

    async def ask(self, pos: str, name: str, why: str = "it was begun, and no answer was recorded") -> Dropped:
        """An effect is in doubt and a person must decide. Answers what to raise."""
        await self.recorder.doubt(pos)
        error = EffectInDoubt(
            f"nobody knows whether the effect {name!r} (position {pos}) of run {self.run.id} happened",
            why=why,
            fix=f"look whether it happened, then relit effects resolve {self.run.id} {pos} --done|--not-done",
        )
        self.park("effect-in-doubt", error)
        return Dropped("an effect is in doubt")

    # --- the gate that every live call passes ------------------------------------------------------------------

    async def bar(self) -> None:
        """Stand here while the run is being paused or let go of."""
        while self.barred:
            if self.closed:
                raise Dropped("the run has been let go of")
            if self._bar is None:
                self._bar = self.loop.create_future()
            self.waits.consider()
            await self._bar

    def unbar(self) -> None:
        """The run goes on after all."""
        self.barred = self.closed or self.pausing
        if not self.barred and self._bar is not None:
            self._bar.set_result(None)
            self._bar = None

    async def begin(self) -> None:
        """A live call starts."""
        if self.barred:
            await self.bar()
        self.inflight += 1
        self.activity += 1

    def end(self) -> None:
        """A live call is over."""
        self.inflight -= 1
        if self.pausing or self.waits.pending:
            self.waits.consider()

    # --- what calls need ---------------------------------------------------------------------------------------

    def scope(self) -> Scope:
        """The scope of the code that asks."""
        place = PLACE.get()
        if type(place) is Scope and place.task is asyncio.current_task() and place.execution is self:
            return place
        return self._strange(place)

    def _strange(self, place: Scope | Frame | None) -> Scope:
        if isinstance(place, Frame):
            raise Conflict(
                f"the step at {place.pos} used the workflow's context",
                why="a step is one recorded action: it cannot contain others",
                fix="return from the step and call the next one from the workflow",
            )
        if place is None or place.execution is not self:
            raise Conflict(
                "the context was used outside its run",
                why="it belongs to one run of one workflow",
                fix="use the context that the workflow was called with, in its own tasks",
            )
        fresh = place.stranger(asyncio.current_task())
        PLACE.set(fresh)
        return fresh

    def hash(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The hash of a call's input."""
        if not args and not kwargs:
            return b""
        data = self.payloads.packer.canonical((args, kwargs) if kwargs else (args,))
        return hashlib.blake2b(data, digest_size=8).digest()

    def own_id(self, pos: str, name: str, hash: bytes) -> str:
        """The id of what the call at ``pos`` makes outside: the same whenever that call is made again. After the
        journal went back another call may stand there, and gets another."""
        return derived_id(self.run.id, pos, name, hash.hex())

    async def store(self, packed: bytes) -> bytes:
        """``packed`` as it goes into a row."""
        if self.payloads.ready(packed):
            return packed
        return await self.recorder.insist(lambda: self.payloads.seal(packed))

    async def fetch(self, data: bytes, type: Any) -> Any:
        """The value of a stored payload, however long the blob store is away."""
        return await self.recorder.insist(lambda: self.payloads.decode(data, type))

    def emit(self, pos: str, attempt: int, ordinal: int, value: Any) -> None:
        """Add an item to the run's stream."""
        if self.closed:
            raise Dropped("the run has been let go of")
        self._in_loop(self._put, pos, attempt, ordinal, self.payloads.pack(value))

    async def emitted(self) -> AsyncIterator[Any]:
        """What is in the run's stream, what was emitted a moment ago too."""
        store, run, after = self.recorder.store, self.run.id, -1
        if self.recorder.stream is not None:
            await self.recorder.stream.flush()
        while page := await self.recorder.insist(functools.partial(store.stream, run, after)):
            for item in page:
                yield await self.fetch(item.data, Any)
            after = page[-1].idx

    def _put(self, pos: str, attempt: int, ordinal: int, packed: bytes) -> None:
        if self.closed:
            return
        if self.recorder.stream is None:
            self.recorder.stream = Stream(_Sink(self), self._streamed)
        self.recorder.stream.put(pos, attempt, ordinal, packed)

    def _in_loop(self, act: Callable[..., None], *args: Any) -> None:
        """Call from whichever thread; calls from one thread keep their order, its step's result comes after them."""
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            here = False
        if here:
            act(*args)
        else:
            self.loop.call_soon_threadsafe(act, *args)

    def beat(self, frame: Frame, detail: Any) -> None:
        """A step says that it is at work, from whichever thread it runs in."""
        self._in_loop(self._beat, frame, b"" if detail is None else self.payloads.pack(detail))

    def _beat(self, frame: Frame, packed: bytes) -> None:
        frame.beat()
        now = self.loop.time()
        if now - self._beaten_at >= _BEAT_EVERY_S and not self.closed:
            self._beaten_at = now
            self.spawn(lambda: self._show(packed))

    async def _show(self, packed: bytes) -> None:
        await self.recorder.beat(await self.store(packed) if packed else packed)


class _Sink:
    """A stream's way to the store."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    async def seal(self, packed: bytes) -> bytes:
        return await self._execution.store(packed)

    async def emit(self, items: list[StreamItem]) -> None:
        recorder = self._execution.recorder
        await recorder.insist(lambda: recorder.store.emit(recorder.fence, items))

    async def written(self, after: int, limit: int) -> list[StreamItem]:
        recorder = self._execution.recorder
        return await recorder.insist(lambda: recorder.store.stream(recorder.fence.run, after, limit))

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._execution.spawn(work)


def fence_of(run: Run) -> Fence:
    """The claim that ``run`` was handed out under."""
    return Fence(run.id, run.epoch)
