"""Sees the workers of this machine die, at once and with proof, and has their runs taken from them."""

from __future__ import annotations

import asyncio
import logging
import os

from relit.errors import StoreFull, StoreUnavailable
from relit.lib import crashpoints, proc
from relit.lib.proc import ProcessId
from relit.lib.service import OnFailure, Tasks, reporting
from relit.store.base import Store
from relit.store.values import WorkerInfo

log = logging.getLogger("relit.durable")

_POLL_S = 5.0


class Peers:
    """Holds a pidfd for each other worker of this boot and pid namespace."""

    def __init__(self, store: Store, poison_after: int, on_failure: OnFailure | None = None) -> None:
        self._store = store
        self._poison_after = poison_after
        self._me = proc.myself()
        self._watched: dict[str, int] = {}
        self._tasks = Tasks(reporting(log, "watching other workers", on_failure))

    async def start(self) -> None:
        self._tasks.spawn(self._follow(), "relit-peers")

    async def stop(self) -> None:
        await self._tasks.stop()
        for worker in list(self._watched):
            self._forget(worker)

    async def _follow(self) -> None:
        subscription = self._store.subscribe("workers")
        try:
            while True:
                try:
                    self._watch(await self._store.workers())
                except (StoreUnavailable, StoreFull):
                    pass  # asked again in a moment
                await subscription.wait(_POLL_S)
        finally:
            subscription.close()

    def _watch(self, workers: list[WorkerInfo]) -> None:
        live = {info.id: info for info in workers if self._is_near(info)}
        for worker in set(self._watched) - set(live):
            self._forget(worker)
        for info in live.values():
            if info.id not in self._watched:
                self._open(info)

    def _is_near(self, info: WorkerInfo) -> bool:
        here = info.boot == self._me.boot and info.namespace == self._me.namespace
        return here and info.pid != self._me.pid

    def _open(self, info: WorkerInfo) -> None:
        try:
            fd = os.pidfd_open(info.pid)
        except ProcessLookupError:
            self._died(info.id)
            return
        except OSError:
            return  # no pidfds here: the ticker looks at /proc
        if proc.proven_dead(ProcessId(info.pid, info.start, info.boot, info.namespace)):
            os.close(fd)
            self._died(info.id)
            return
        self._watched[info.id] = fd
        asyncio.get_running_loop().add_reader(fd, self._died, info.id)

    def _forget(self, worker: str) -> None:
        fd = self._watched.pop(worker)
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)

    def _died(self, worker: str) -> None:
        if worker in self._watched:
            self._forget(worker)
        self._tasks.spawn(reap(self._store, worker, True, self._poison_after), "relit-reap")


async def reap(store: Store, worker: str, proven: bool, poison_after: int) -> None:
    """Take a dead worker's runs from it; the store being away is somebody else's next round."""
    crashpoints.point("reap.before")
    if proven:  # what its steps had started must not go on beside their second try
        left = await asyncio.to_thread(proc.kill_marked, worker)
        if left:
            log.info("worker %s is dead: killed %d processes that it left behind", worker, len(left))
    try:
        reaped = await store.reap(worker, proven, poison_after)
    except (StoreUnavailable, StoreFull):
        return
    crashpoints.point("reap.after")
    if reaped is not None and (reaped.runs or reaped.poisoned):
        log.info("worker %s is dead: %d runs taken over, parked: %s", worker, reaped.runs, reaped.poisoned)
