"""Writes a claimed run's history: in order, under its fence, and again while the store is away.

Values that cost no commit of their own (``ctx.now``…) wait in memory and go with the next write, ahead of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from relit.durable.lease import Lease
from relit.durable.streams import Stream
from relit.errors import Fenced, MailboxFull, StoreFull, StoreUnavailable
from relit.lib import crashpoints
from relit.lib.clock import Clock
from relit.store.base import Store
from relit.store.values import Effect, Fence, Finish, NewRun, Step, Wait

log = logging.getLogger("relit.durable")

T = TypeVar("T")

_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.05, 2.0


class Dropped(asyncio.CancelledError):
    """The run is no longer ours, or has been let go of: whatever the workflow still asks for is refused."""


class Recorder:
    """The only writer of one claimed run."""

    def __init__(self, store: Store, fence: Fence, lease: Lease, clock: Clock, lost: Callable[[], None]) -> None:
        self.store = store
        self.fence = fence
        self.lease = lease
        self.stream: Stream | None = None
        self.seq = 0
        self._clock = clock
        self._lost = lost
        self._notes: list[Step] = []

    def note(self, pos: str, kind: str, name: str, result: bytes) -> None:
        """Record something with the next write."""
        self.seq += 1
        now = self._clock.now_ms()
        self._notes.append(
            Step(seq=self.seq, pos=pos, kind=kind, name=name, hash=b"", result=result, started_at=now, finished_at=now)
        )

    async def append(
        self,
        pos: str,
        kind: str,
        name: str,
        hash: bytes,
        *,
        result: bytes | None = None,
        error: bytes | None = None,
        started_at: int = 0,
        attempts: int = 1,
        sends: Sequence[NewRun] = (),
        consume: Sequence[str] = (),
        adopts: str | None = None,
    ) -> None:
        """Record one step; it is on disk when this returns."""
        if self.stream is not None:
            await self.stream.flush()
        self.seq += 1
        step = Step(
            seq=self.seq,
            pos=pos,
            kind=kind,
            name=name,
            hash=hash,
            result=result,
            error=error,
            started_at=started_at,
            finished_at=self._clock.now_ms(),
            attempts=attempts,
        )
        if self._notes or sends or adopts:
            await self._append_with_notes(step, sends, consume, adopts)
            return
        crashpoints.point("append.before")
        try:
            await self.store.append(self.fence, (step,), consume=consume)
        except (StoreUnavailable, StoreFull):
            await self.insist(lambda: self.store.append(self.fence, (step,), consume=consume))
        except Fenced:
            raise self._drop() from None
        crashpoints.point("append.after")

    async def _append_with_notes(
        self, step: Step, sends: Sequence[NewRun], consume: Sequence[str], adopts: str | None
    ) -> None:
        notes, self._notes = self._notes, []
        try:
            await self._append([*notes, step], sends, consume, adopts)
        except MailboxFull:  # a step that could not be sent takes no history with it, and leaves no gap in it
            self._notes = [*notes, *self._notes]
            self.seq -= self.seq == step.seq  # unless another branch has written since
            raise

    async def _append(
        self,
        steps: Sequence[Step],
        sends: Sequence[NewRun] = (),
        consume: Sequence[str] = (),
        adopts: str | None = None,
    ) -> None:
        crashpoints.point("append.before")
        try:
            await self.store.append(self.fence, steps, sends=sends, consume=consume, adopts=adopts)
        except (StoreUnavailable, StoreFull):
            await self.insist(lambda: self.store.append(self.fence, steps, sends=sends, consume=consume, adopts=adopts))
        except Fenced:
            raise self._drop() from None
        crashpoints.point("append.after")

    async def settle(self) -> None:
        """Bring everything to disk that waits in memory."""
        if self.stream is not None:
            await self.stream.flush()
        if self._notes:
            notes, self._notes = self._notes, []
            await self._append(notes)

    async def intend(self, effect: Effect, adopts: str | None = None) -> None:
        """Write an effect's intent."""
        await self.settle()
        crashpoints.point("intend.before")
        await self.insist(lambda: self.store.intend(self.fence, effect, adopts=adopts))
        crashpoints.point("intend.after")

    async def doubt(self, pos: str) -> None:
        """Mark an effect as in doubt."""
        await self.settle()
        crashpoints.point("doubt.before")
        await self.insist(lambda: self.store.doubt(self.fence, pos))
        crashpoints.point("doubt.after")

    async def suspend(self, waits: Sequence[Wait], reason: str) -> bool:
        """Let go of the run until something comes; false when something has."""
        await self.settle()
        crashpoints.point("suspend.before")
        gone = await self.insist(lambda: self.store.suspend(self.fence, waits, reason))
        crashpoints.point("suspend.after")
        return gone

    async def finish(self, finish: Finish) -> None:
        """End the claim."""
        await self.settle()
        crashpoints.point("finish.before")
        await self.insist(lambda: self.store.finish(self.fence, finish))
        crashpoints.point("finish.after")

    async def beat(self, detail: bytes) -> None:
        """Show that a long step is at work. Not worth insisting on."""
        try:
            await self.store.beat(self.fence, detail)
        except (StoreUnavailable, StoreFull):
            return
        except Fenced:
            raise self._drop() from None

    async def insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """``write``, again and again while the store is away and the lease may still be ours."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await write()
            except Fenced:
                raise self._drop() from None
            except (StoreUnavailable, StoreFull) as error:
                if self.lease.left_ms() == 0:
                    raise self._drop() from error
                if pause == _MOST_PAUSE_S:
                    log.warning("run %s waits for its store: %s (%s)", self.fence.run, error.what, error.why)
            await asyncio.sleep(pause)
            pause = min(_MOST_PAUSE_S, pause * 2)

    def _drop(self) -> Dropped:
        self._lost()
        return Dropped("the run is no longer this worker's")
