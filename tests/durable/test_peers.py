"""Taking over from a worker that is dead."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from durable_house import House

from relit.durable import peers
from relit.lib import proc
from relit.lib.ids import new_id
from relit.store.values import Reaped


class Watched:
    """A store that notes whether a process lives at the moment in which runs are taken."""

    def __init__(self, house: House, child: subprocess.Popen[bytes]) -> None:
        self._reap = house.store.reap
        self._child = child
        self.alive: list[bool] = []

    async def reap(self, worker: str, proven: bool, poison_after: int) -> Reaped | None:
        self.alive.append(self._child.poll() is None)
        return await self._reap(worker, proven, poison_after)


async def left_behind(house: House, proven: bool) -> list[bool]:
    worker = new_id()
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, proc.MARK: worker})
    try:
        store: Any = Watched(house, child)
        await peers.reap(store, worker, proven, 5)
        return list(store.alive)
    finally:
        child.kill()
        child.wait()


async def test_what_a_dead_worker_left_behind_is_killed_before_its_runs_are_taken(house: House) -> None:
    assert await left_behind(house, proven=True) == [False]


async def test_nothing_is_killed_of_a_worker_that_only_seems_dead(house: House) -> None:
    assert await left_behind(house, proven=False) == [True]
