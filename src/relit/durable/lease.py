"""A worker's lease as the worker knows it: never longer than what the store granted."""

from __future__ import annotations

import asyncio

from relit.lib import crashpoints
from relit.lib.clock import Clock
from relit.store.base import Store


class Lease:
    """Counted on the boot clock, which runs on while the machine sleeps, from before each renewal was asked for."""

    def __init__(self, store: Store, worker: str, lease_ms: int, clock: Clock) -> None:
        self.worker = worker
        self.lease_ms = lease_ms
        self.lost = False
        self._store = store
        self._clock = clock
        self._until = 0
        self._lock = asyncio.Lock()

    def granted(self, asked_at: int) -> None:
        """The store granted a full lease to a request made at ``asked_at`` (boot ms)."""
        self._until = max(self._until, asked_at + self.lease_ms)

    def left_ms(self) -> int:
        """Milliseconds for which the lease certainly holds."""
        return 0 if self.lost else max(0, self._until - self._clock.boot_ms())

    async def renew(self) -> bool:
        """Ask for a full lease again. False: the store has given the worker up."""
        asked_at = self._clock.boot_ms()
        crashpoints.point("renew.before")
        kept = await self._store.renew(self.worker, self.lease_ms)
        crashpoints.point("renew.after")
        if kept:
            self.granted(asked_at)
        else:
            self.lost = True
        return kept

    async def margin(self, ms: int) -> bool:
        """Make sure that at least ``ms`` are left, renewing when they are not. False: the lease is lost."""
        if self.left_ms() >= ms:
            return True
        async with self._lock:
            return self.left_ms() >= ms or (not self.lost and await self.renew())
