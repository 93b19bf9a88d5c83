"""relit's own store, sent along: when packs go to a bucket, copies of the SQLite store do, too, as a volume of its own.

A copy is made when something happened since the last one. What is lost with the machine is what came after the newest
copy that is in the bucket: ``EVERY_S`` and one interval of uploads, unless the store is so large that copies take
longer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from relit.errors import RelitError
from relit.lib.service import OnFailure, Tasks, reporting
from relit.store.sql.sqlite.backup import backup, newest
from relit.volumes.service import Homes

log = logging.getLogger("relit.volumes")
STORE = ".relit"  # the volume of the store's copies
BLOBS = ".blobs"  # the volume of large payloads, when they lie in a folder
FILE = "relit.db"
EVERY_S = 20.0
_SHARE = 20  # a copy takes at most one part in so many of the time


class Shipping:
    """``database``: the store's file; ``folder``: where its copies are made."""

    def __init__(self, homes: Homes, database: Path, folder: Path, on_failure: OnFailure) -> None:
        self._homes = homes
        self._database = database
        self._folder = folder
        self._last: object = None
        self._tasks = Tasks(reporting(log, "the copies of the store", on_failure))

    async def start(self) -> None:
        """Begin."""
        self._tasks.spawn(self._loop(), "ship-store")

    async def stop(self) -> None:
        """End; safe twice."""
        await self._tasks.stop()

    async def _loop(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self.ship()
            except RelitError as error:  # the next round tries again
                log.warning("the store was not copied: %s", error)
            await asyncio.sleep(max(EVERY_S, (time.monotonic() - began) * _SHARE))

    async def ship(self) -> bool:
        """Make a copy, and a snapshot of it, if anything happened. Whether it did."""
        now = await asyncio.to_thread(newest, self._database)
        if now == self._last:
            return False
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(backup, self._database, self._folder / FILE)
        await self._homes.snapshot(STORE, "interval")
        self._last = now
        return True
