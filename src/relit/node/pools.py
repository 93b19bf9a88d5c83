"""Pools: workers that run one agent's code, as many as its work needs. How many that is, is decided in ``pressure``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from relit.control.values import SPARE, Activity, PoolPlace
from relit.lib.clock import Clock
from relit.node.census import Census
from relit.node.instance import Instance
from relit.pressure.pool import Pool, Scale, Work, scaled

LOOK_S = 0.5
ASK_S = 0.4


class Pools:
    """Of one node."""

    def __init__(self, clock: Clock, instances: Callable[[], Iterable[Instance]], census: Census) -> None:
        self._clock = clock
        self._instances = instances
        self._census = census
        self._scales: dict[str, Scale] = {}
        self._seen = float("-inf")

    def begin(self, place: PoolPlace | None, *, runs: bool) -> str | None:
        """Why a worker is not started at first; ``None``: it is. ``runs``: an earlier node has left it running."""
        if place is None or place.number <= place.least or runs:
            return None
        return _why(place.least, place.most)

    async def run(self) -> None:
        """For ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Once."""
        groups: dict[str, list[Instance]] = {}
        for each in self._instances():
            if each.spec.pool is not None:
                groups.setdefault(each.spec.pool.of, []).append(each)
        self._scales = {of: scale for of, scale in self._scales.items() if of in groups}
        if not groups:
            return
        at = self._clock.monotonic()
        self._census.ask(ASK_S, at)
        known = self._census.known
        fresh = known is not None and known[0] > self._seen
        if known is None or not fresh:
            return
        self._seen = known[0]
        for of, workers in groups.items():
            self._scale(of, workers, known[1], at)

    def _scale(self, of: str, workers: list[Instance], known: Activity, at: float) -> None:
        place = workers[0].spec.pool
        assert place is not None, "only those come here"
        before = self._scales.get(of) or Scale(wanted=sum(each.hold.spare is None for each in workers))
        load = known.loads.get(of)
        work = Work(load.ready, load.running) if load is not None else Work(0, 0)
        up = sum(each.hold.spare is None and each.status.state in ("ready", "working", "idle") for each in workers)
        pool = Pool(least=place.least, most=place.most, places=place.places)
        now = self._scales[of] = scaled(before, pool, work, up, at)
        for each in workers:
            needed = each.spec.pool is not None and each.spec.pool.number <= now.wanted
            each.hold.rest(None if needed else _why(now.wanted, place.most))


def _why(wanted: int, most: int) -> str:
    return f"{SPARE}{wanted} of {most} workers are enough"
