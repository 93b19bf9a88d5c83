"""Claims runs and executes them, under a lease.

A worker that loses its lease (it was stopped, or cut off, for longer than the lease) lets go of everything without
a write and joins again under a new name: whatever it held belongs to others.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from random import Random

from relit.durable import faults
from relit.durable.context import Context
from relit.durable.definitions import Agent, Definition, workflows
from relit.durable.engine import Engine
from relit.durable.execution import Execution, Services, fence_of
from relit.durable.lease import Lease
from relit.durable.peers import Peers
from relit.durable.recorder import Recorder
from relit.durable.threads import Threads
from relit.errors import Fenced, StoreError, StoreFull, StoreUnavailable
from relit.lib import crashpoints, proc
from relit.lib.durations import Duration, to_ms
from relit.lib.ids import system_random
from relit.lib.service import OnFailure, Tasks, reporting
from relit.store.values import Fence, Finish, Run, WorkerInfo

log = logging.getLogger("relit.durable")

_POLL_S = 5.0
_BACK_OFF_S = 0.5


class Worker:
    """Executes runs of ``definitions``, at most ``concurrency`` at a time.

    ``on_failure`` is told of an unforeseen error that ended one of its loops, or left a run without an end: end the
    process, so that another worker takes over what it holds.
    """

    def __init__(
        self,
        engine: Engine,
        definitions: Iterable[Definition],
        *,
        concurrency: int = 100,
        lease_ms: int = 10_000,
        poison_after: int = 5,
        steady: bool = False,
        chance: Random | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        given = list(definitions)
        self.engine = engine
        self.store = engine.store
        self._workflows = {workflow.target: workflow for workflow in workflows(given)}
        self._timeouts = {
            target: each.timeout_ms for target, each in self._workflows.items() if each.timeout_ms is not None
        }
        self._mailboxes = [each.mailbox for each in given if isinstance(each, Agent) and each.mailbox is not None]
        self._concurrency = concurrency
        self._lease_ms = lease_ms
        self._steady = steady
        self._services = Services(engine.payloads, engine.clock, chance or system_random(), Threads(), engine.home)
        self._peers = Peers(engine.store, poison_after, on_failure)
        self._running: dict[Fence, Execution] = {}
        self._suspects = 0
        self._loops = Tasks(reporting(log, "the worker", on_failure))
        self._drives = Tasks(reporting(log, "executing a run", on_failure))
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._claiming = False
        self._started = False
        self._lease = self._new_lease()

    @property
    def id(self) -> str:
        """The name under which the worker is registered now."""
        return self._lease.worker

    @property
    def running(self) -> int:
        """Runs being executed now."""
        return len(self._running)

    @property
    def executions(self) -> list[Execution]:
        """What is being executed now."""
        return list(self._running.values())

    def _new_lease(self) -> Lease:
        return Lease(self.store, self.engine.ids(), self._lease_ms, self.engine.clock)

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register and begin to claim runs."""
        for mailbox in self._mailboxes:
            await self.store.configure_mailbox(mailbox)
        await self._join()
        self._started = self._claiming = True
        await self._peers.start()
        self._loops.spawn(self._renew(), "relit-renew")
        self._loops.spawn(self._listen(), "relit-listen")
        self._loops.spawn(self._claim(), "relit-claim")
        self._loops.spawn(self._requests(), "relit-requests")

    async def drain(self, timeout: Duration = "30s") -> None:
        """Claim nothing more, let what runs finish for at most ``timeout``, then stop."""
        self._claiming = False
        try:
            async with asyncio.timeout(to_ms(timeout) / 1000):
                while self._running:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            log.info("worker %s: %d runs are given back unfinished", self.id, len(self._running))
        await self.stop()

    async def stop(self) -> None:
        """Give every run back where it stands, and leave. Safe twice."""
        if not self._started:
            return
        self._started = self._claiming = False
        await self._loops.stop()
        await self._peers.stop()
        await self._let_go()
        self._services.threads.stop()
        try:
            await self.store.leave(self.id)
        except (StoreUnavailable, StoreFull):
            log.info("worker %s could not say good-bye: its lease will run out", self.id)

    async def _let_go(self) -> None:
        """Stop executing, write nothing, and hand the claims back."""
        fences = list(self._running)
        for execution in list(self._running.values()):
            execution.abandon()
        await self._drives.stop()
        if fences:
            await self._release(fences)

    async def _release(self, fences: list[Fence]) -> None:
        crashpoints.point("release.before")
        try:
            await self.store.release(fences)
        except (StoreUnavailable, StoreFull):
            log.info("worker %s could not give %d runs back: its lease will run out", self.id, len(fences))
        crashpoints.point("release.after")

    # --- lease -------------------------------------------------------------------------------------------------

    async def _join(self) -> None:
        me, asked_at = proc.myself(), self.engine.clock.boot_ms()
        info = WorkerInfo(
            id=self.id,
            host=socket.gethostname(),
            pid=me.pid,
            start=me.start,
            boot=me.boot,
            namespace=me.namespace,
            targets=sorted(self._workflows),
            steady=self._steady,
        )
        proc.mark_children(self.id)
        await self.store.join(info, self._lease_ms)
        crashpoints.point("join.after")
        self._lease.granted(asked_at)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_ms / 3000)
            try:
                kept = self._lease.left_ms() > 0 and await self._lease.renew()
            except (StoreUnavailable, StoreFull):
                continue
            if not kept:
                await self._rejoin()

    async def _rejoin(self) -> None:
        """The lease is lost: let go of everything, come back as somebody else."""
        log.warning("worker %s lost its lease: it lets go of %d runs and joins again", self.id, len(self._running))
        claiming, self._claiming = self._claiming, False
        self._lease.lost = True
        await self._let_go()
        old, self._lease = self._lease.worker, self._new_lease()
        while True:
            try:
                await self.store.leave(old)
                await self._join()
                break
            except (StoreUnavailable, StoreFull):
                await asyncio.sleep(_BACK_OFF_S)
        self._claiming = claiming
        self._wake.set()

    # --- claiming ----------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        subscription = self.store.subscribe("ready")
        try:
            while True:
                await subscription.wait(_POLL_S)  # with or without news: the poll is the safety net
                self._wake.set()
        finally:
            subscription.close()

    async def _claim(self) -> None:
        while True:
            self._wake.clear()
            free = self._concurrency - len(self._running)
            if self._claiming and free > 0 and await self._claim_some(free) == free:
                continue  # there may be more
            await self._wake.wait()

    async def _claim_some(self, free: int) -> int:
        lease = self._lease
        crashpoints.point("claim.before")
        try:
            runs = await self.store.claim(
                lease.worker, list(self._workflows), free, max(0, 1 - self._suspects), self._timeouts
            )
        except Fenced:
            lease.lost = True  # the renewing task joins again, unless it has already
            return 0
        except (StoreUnavailable, StoreFull):
            await asyncio.sleep(_BACK_OFF_S)
            self._wake.set()
            return 0
        crashpoints.point("claim.after")
        for run in runs:
            self._open(run, lease)
        return len(runs)

    def _open(self, run: Run, lease: Lease) -> None:
        if lease is not self._lease or not self._started:  # claimed in the moment in which the lease went
            self._drives.spawn(self._release([fence_of(run)]), "relit-release")
            return
        recorder = Recorder(self.store, fence_of(run), lease, self.engine.clock, lambda: execution.abandon())
        execution = Execution(run, self._workflows[run.target], recorder, self._services)
        self._running[recorder.fence] = execution
        self._suspects += run.crashes > 0
        self._drives.spawn(self._drive(execution), f"relit-run-{run.id}")

    async def _drive(self, execution: Execution) -> None:
        fence = execution.recorder.fence
        try:
            await execution.drive(Context(execution))
        except Exception as error:  # not the workflow's fault
            log.error("run %s could not be executed", fence.run, exc_info=error)
            await self._set_aside(fence, error)
        finally:
            full = len(self._running) >= self._concurrency
            del self._running[fence]
            self._suspects -= execution.run.crashes > 0
            if full or execution.run.crashes > 0:
                self._wake.set()
            if not self._running:
                self._idle.set()

    async def _set_aside(self, fence: Fence, error: Exception) -> None:
        """Park what relit itself cannot execute: trying again for ever would hide it. Else give it back, later."""
        fault = faults.dump(faults.describe(error))
        try:
            await self.store.finish(fence, Finish(state="parked", reason="internal-error", error=fault))
        except StoreError:
            await asyncio.sleep(_BACK_OFF_S)
            await self._release([fence])

    # --- requests ----------------------------------------------------------------------------------------------

    async def _requests(self) -> None:
        subscription = self.store.subscribe("requests")
        try:
            while True:
                await subscription.wait(_POLL_S)
                await self._obey()
        finally:
            subscription.close()

    async def _obey(self) -> None:
        try:
            asked = await self.store.requests(self.id) if self._running else []
        except (StoreUnavailable, StoreFull):
            return
        for run in asked:
            execution = self._running.get(fence_of(run))
            if execution is not None:
                execution.requested(run.request, run.reason)
