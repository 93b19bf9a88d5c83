"""A blob store that fails as real ones do, on order or by chance, and a crash at a named point."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from typing import Literal, Protocol

from relit.errors import StoreCorrupt, StoreUnavailable
from relit.lib import crashpoints
from relit.manifest import ObjectInfo
from relit.volumes.base import Objects

Operation = Literal["put", "put_file", "get", "get_ranges", "head", "list", "delete"]
Fault = Literal["error", "late", "torn", "stale", "failing", "slow"]
"""``error``: a 500, nothing done. ``late``: done, then a time-out. ``torn``: an upload that breaks off (nothing is
there), a read that ends too early. ``stale``: a list without the newest object. ``failing``: a list that ends by an
error half-way. ``slow``: done after ``slow_s``."""

ANYWHERE: tuple[Fault, ...] = ("error", "late", "torn", "slow")
IN_LISTS: tuple[Fault, ...] = ("error", "stale", "failing", "slow")


class Plan(Protocol):
    """Which request fails, and how."""

    def next(self, operation: Operation, key: str) -> Fault | None:
        """Asked once for each request, before it."""
        ...


class Scripted:
    """These faults in this order, each for the next request of its operation; afterwards all goes well."""

    def __init__(self, *faults: tuple[Operation, Fault | None]) -> None:
        self._left = list(faults)

    def next(self, operation: Operation, key: str) -> Fault | None:
        """As ``Plan.next``."""
        for no, (named, fault) in enumerate(self._left):
            if named == operation:
                del self._left[no]
                return fault
        return None

    @property
    def done(self) -> bool:
        """Whether every fault has happened."""
        return not self._left


class Chance:
    """A share ``rate`` of all requests fails; the same ``seed`` and requests give the same faults."""

    def __init__(self, seed: int, rate: float, *, faults: Sequence[Fault] = ANYWHERE + IN_LISTS) -> None:
        self._random = Random(seed)
        self._rate = rate
        self._faults = faults

    def next(self, operation: Operation, key: str) -> Fault | None:
        """As ``Plan.next``."""
        fits = [fault for fault in self._faults if fault in (IN_LISTS if operation == "list" else ANYWHERE)]
        hit = self._random.random() < self._rate
        return self._random.choice(fits) if hit and fits else None


class FaultyObjects:
    """``inner`` with the faults of ``plan``. ``requests`` counts what was asked, by operation."""

    def __init__(self, inner: Objects, plan: Plan, *, slow_s: float = 0.01) -> None:
        self.url = inner.url
        self.plan = plan
        self.requests: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self._inner = inner
        self._slow_s = slow_s

    async def put(self, key: str, data: bytes, *, absent: bool = False) -> None:
        """As ``Objects.put``."""
        fault = await self._before("put", key)
        await self._inner.put(key, data, absent=absent)
        self._after(fault, key)

    async def put_file(self, key: str, path: Path) -> None:
        """As ``Objects.put_file``."""
        fault = await self._before("put_file", key)
        await self._inner.put_file(key, path)
        self._after(fault, key)

    async def get(self, key: str) -> bytes:
        """As ``Objects.get``; torn: its first half."""
        fault = await self._before("get", key)
        data = await self._inner.get(key)
        self._after(fault, key)
        return data[: len(data) // 2] if fault == "torn" else data

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """As ``Objects.get_ranges``; torn: found too short."""
        fault = await self._before("get_ranges", key)
        if fault == "torn":
            raise StoreCorrupt(f"object {key} in {self.url} is damaged", why="it is shorter than what was stored")
        found = await self._inner.get_ranges(key, ranges)
        self._after(fault, key)
        return found

    def local(self, key: str) -> Path | None:
        """None: what is read past this does not fail."""
        return None

    async def head(self, key: str) -> ObjectInfo | None:
        """As ``Objects.head``."""
        fault = await self._before("head", key)
        found = await self._inner.head(key)
        self._after(fault, key)
        return found

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """As ``Objects.list``."""
        fault = await self._before("list", prefix)
        found = [info async for info in self._inner.list(prefix)]
        if fault == "stale" and found:
            found.remove(max(found, key=lambda info: (info.modified_ms, info.key)))
        for no, info in enumerate(found):
            if fault == "failing" and no >= len(found) // 2:
                break
            yield info
        if fault == "failing":
            raise StoreUnavailable(f"cannot list objects below {prefix!r} in {self.url}", why="500 half-way")

    async def delete(self, key: str) -> None:
        """As ``Objects.delete``."""
        fault = await self._before("delete", key)
        await self._inner.delete(key)
        self._after(fault, key)

    async def _before(self, operation: Operation, key: str) -> Fault | None:
        self.requests[operation] += 1
        fault = self.plan.next(operation, key)
        if fault is None:
            return None
        self.happened[fault] += 1
        if fault == "slow":
            await asyncio.sleep(self._slow_s)
        elif fault == "error" or (fault == "torn" and operation not in ("get", "get_ranges")):
            raise StoreUnavailable(f"cannot {operation} {key} in {self.url}", why=f"500 ({fault})")
        return fault

    def _after(self, fault: Fault | None, key: str) -> None:
        if fault == "late":
            raise StoreUnavailable(f"no answer for {key} from {self.url}", why="timed out")


def crash_at(name: str, times: int = 1) -> None:
    """From now on this process ends by SIGKILL when it is at crash point ``name`` for the ``times``-th time."""
    seen: Counter[str] = Counter()

    def passing(at: str) -> None:
        seen[at] += 1
        if at == name and seen[at] == times:
            os.kill(os.getpid(), signal.SIGKILL)

    crashpoints.install(passing)
