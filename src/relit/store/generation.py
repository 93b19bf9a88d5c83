"""Whose turn it is: a store that was recovered elsewhere gives its prefix up.

Both have one id, so the claim does not tell them apart. Each recovery begins a new *generation*, by an object of its
own that only one can put (``generations/000002``). The store remembers its own; as soon as there is a newer one it
neither deletes nor uploads anything. A prefix without such objects is of generation 1.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from relit.errors import Conflict, StoreUnavailable, WrongStore
from relit.lib.clock import SYSTEM_CLOCK, Clock, iso
from relit.manifest import ObjectInfo
from relit.store.objects import Objects

FIRST = 1
_FOLDER = "generations/"
_FRESH_MS = 60_000  # uploads trust a look that old; what they add by mistake harms nobody


async def begin(objects: Objects, store_id: str, *, clock: Clock = SYSTEM_CLOCK) -> int:
    """Take the prefix over: answers the new generation. The server honours conditions (``claim.probe``)."""
    number = max([int(each.key.removeprefix(_FOLDER)) async for each in objects.list(_FOLDER)], default=FIRST)
    while True:
        number += 1
        try:
            await objects.put(_key(number), _said(store_id, clock), absent=True)
            return number
        except Conflict:  # another's, or our own, put again after a lost answer: then nobody has that one
            continue


async def check(objects: Objects, store_id: str, number: int, *, clock: Clock = SYSTEM_CLOCK) -> None:
    """WrongStore when there is a newer generation. Else the prefix knows of this one, though it was copied without."""
    newer = await objects.head(_key(number + 1))
    if newer is not None:
        raise WrongStore(
            f"{objects.url} is not this store's any more: it was recovered elsewhere",
            why=f"generation {number + 1} began at {iso(newer.modified_ms)}, this store is of generation {number}; "
            "two at once would delete each other's packs",
            fix="relit down here, and use the recovered one; if this is the one to keep, relit down there, then "
            "relit recover here with an empty data folder (--data)",
        )
    if number > FIRST and await objects.head(_key(number)) is None:
        try:
            await objects.put(_key(number), _said(store_id, clock), absent=True)
        except Conflict:
            return


def _key(number: int) -> str:
    return f"{_FOLDER}{number:06}"


def _said(store_id: str, clock: Clock) -> bytes:
    return json.dumps({"store": store_id, "made_at": iso(clock.now_ms())}).encode()


class OwnObjects:
    """Objects of a prefix, changed only as long as it is ours. Nothing is deleted without a look."""

    def __init__(self, objects: Objects, store_id: str, number: int, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.url = objects.url
        self._objects = objects
        self._id = store_id
        self._number = number
        self._clock = clock
        self._looked_ms: int | None = None

    async def start(self) -> None:
        """Look at once; without the blob store, the first change does."""
        with contextlib.suppress(StoreUnavailable):
            await self._look()

    async def _look(self, fresh_ms: int = 0) -> None:
        now = self._clock.boot_ms()
        if self._looked_ms is None or now - self._looked_ms >= fresh_ms:
            await check(self._objects, self._id, self._number, clock=self._clock)
            self._looked_ms = now

    async def put(self, key: str, data: bytes, *, absent: bool = False) -> None:
        """After a look, now and then."""
        await self._look(_FRESH_MS)
        await self._objects.put(key, data, absent=absent)

    async def put_file(self, key: str, path: Path) -> None:
        """After a look, now and then."""
        await self._look(_FRESH_MS)
        await self._objects.put_file(key, path)

    async def delete(self, key: str) -> None:
        """After a look."""
        await self._look()
        await self._objects.delete(key)

    async def get(self, key: str) -> bytes:
        """As it is."""
        return await self._objects.get(key)

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """As they are."""
        return await self._objects.get_ranges(key, ranges)

    def local(self, key: str) -> Path | None:
        """As it is."""
        return self._objects.local(key)

    async def head(self, key: str) -> ObjectInfo | None:
        """As it is."""
        return await self._objects.head(key)

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """As it is."""
        return self._objects.list(prefix)
