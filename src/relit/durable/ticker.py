"""Does what is due: timers, retries, expiries, dead workers, retention. Any number of processes may run one."""

from __future__ import annotations

import asyncio
import logging

from relit.durable.peers import reap
from relit.errors import StoreFull, StoreUnavailable
from relit.lib import crashpoints, proc
from relit.lib.proc import ProcessId
from relit.lib.service import OnFailure, Tasks, reporting
from relit.store.base import Store

log = logging.getLogger("relit.durable")

_LONGEST_S = 5.0  # the safety net for a wake-up that was lost
_REAP_S = 2.0
_FORGET_S = 600.0
_FORGET_BATCH = 100  # one transaction: long journals must not hold up the renewal of leases
_BACK_OFF_S = 1.0


class Ticker:
    """``retain_ms``: final runs older than that are deleted; ``None`` keeps them for ever.

    ``on_failure`` is told of an unforeseen error that ended one of its loops: end the process.
    """

    def __init__(
        self,
        store: Store,
        *,
        poison_after: int = 5,
        retain_ms: int | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        self._store = store
        self._poison_after = poison_after
        self._retain_ms = retain_ms
        self._tasks = Tasks(reporting(log, "the ticker", on_failure))

    async def start(self) -> None:
        """Begin."""
        self._tasks.spawn(self._promote(), "relit-promote")
        self._tasks.spawn(self._reap(), "relit-reap")
        if self._retain_ms is not None:
            self._tasks.spawn(self._forget(self._retain_ms), "relit-forget")

    async def stop(self) -> None:
        """End; safe twice."""
        await self._tasks.stop()

    async def _promote(self) -> None:
        subscription = self._store.subscribe("timers")
        try:
            while True:
                await subscription.wait(await self._promote_once())
        finally:
            subscription.close()

    async def _promote_once(self) -> float:
        """Do what is due; answers seconds until there is more."""
        crashpoints.point("promote.before")
        try:
            left_ms = await self._store.promote()
        except (StoreUnavailable, StoreFull):
            return _BACK_OFF_S
        crashpoints.point("promote.after")
        return _LONGEST_S if left_ms is None else min(_LONGEST_S, left_ms / 1000)

    async def _reap(self) -> None:
        while True:
            try:
                await self.reap_once()
            except (StoreUnavailable, StoreFull):
                pass  # the next round comes soon
            await asyncio.sleep(_REAP_S)

    async def reap_once(self) -> None:
        """Take the runs of workers whose process is proven dead, then of those whose lease has run out.

        In this order: an effect of a worker that is certainly dead need not wait for its deadline.
        """
        for info in await self._store.workers():
            if proc.proven_dead(ProcessId(info.pid, info.start, info.boot, info.namespace)):
                await reap(self._store, info.id, True, self._poison_after)
        for worker in await self._store.expired_workers():
            await reap(self._store, worker, False, self._poison_after)

    async def _forget(self, retain_ms: int) -> None:
        while True:
            try:
                while await self._store.forget(retain_ms, _FORGET_BATCH) == _FORGET_BATCH:
                    pass
            except (StoreUnavailable, StoreFull):
                pass  # nothing hurries
            await asyncio.sleep(_FORGET_S)
