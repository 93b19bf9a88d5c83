"""Kills processes as planned and measures how long what they did stood still."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import httpx

from relit.client import Client
from relit.demo import figures, processes, witness
from relit.demo.figures import Blow
from relit.demo.installation import Installation
from relit.demo.plan import Strike
from relit.errors import RelitError
from relit.lib.clock import SYSTEM_CLOCK

_LOOK_S = 0.03
_PATIENCE_S = 60


class Storm:
    """``runs``: the run of each distribution. ``told`` is called with each blow once its work goes on, and what comes
    next waits for it."""

    def __init__(
        self,
        house: Installation,
        client: Client,
        runs: dict[str, str],
        share: Callable[[], float],
        told: Callable[[Blow], Awaitable[None]],
        chance: Random,
    ) -> None:
        self.blows: list[Blow] = []
        self._house = house
        self._client = client
        self._runs = runs
        self._share = share
        self._told = told
        self._chance = chance

    async def rage(self, strikes: list[Strike]) -> None:
        """Strike after strike, each when its share of the work has begun and the last one is repaired."""
        for strike in strikes:
            while self._share() < strike.share:  # noqa: ASYNC110 - it happens in other processes
                await asyncio.sleep(_LOOK_S)
            await asyncio.sleep(strike.pause)
            blow = await self._strike(strike)
            self.blows.append(blow)
            await self._told(blow)

    async def _strike(self, strike: Strike) -> Blow:
        async with asyncio.timeout(_PATIENCE_S):
            while not (alive := self._house.alive(strike.role)):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(_LOOK_S)  # it is being started again
            pid = self._chance.choice(alive)
            at, wall = SYSTEM_CLOCK.monotonic(), SYSTEM_CLOCK.now_ms()
            processes.kill(pid)
            if strike.role == "worker":
                return await self._work_resumed(pid, at, wall)
            resumed = await (self._server_answers() if strike.role == "server" else self._node_back(pid))
        return Blow(at, strike.role, pid, resumed)

    async def _work_resumed(self, pid: int, at: float, wall: int) -> Blow:
        """When another process went on with what ``pid`` did."""
        while True:
            held, resumed = figures.resumption(witness.read(self._house.witness), pid, at)
            if held is None:
                return Blow(at, "worker", pid, None)
            run = await self._client.run(self._runs[held], payloads="none")
            finished = run.finished_at
            if resumed is None and finished is not None and finished > wall:
                resumed = at + (finished - wall) / 1000  # nothing was left but to finish
            if resumed is not None or run.final or run.state == "parked":  # final before the kill: it was idle
                return Blow(at, "worker", pid, resumed, run.id)
            await asyncio.sleep(_LOOK_S)

    async def _server_answers(self) -> float:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
            while True:
                try:
                    if (await http.get(f"{self._house.url}/readyz")).status_code == 200:
                        return SYSTEM_CLOCK.monotonic()
                except httpx.HTTPError:
                    pass  # still down
                await asyncio.sleep(_LOOK_S)

    async def _node_back(self, pid: int) -> float:
        """The node is started again as an operator or systemd would: by `relit up`. Workers went on meanwhile."""
        await asyncio.to_thread(self._house.up)
        if not set(self._house.alive("node")) - {pid}:
            raise RelitError("the node did not come back", fix=f"less {self._house.folder / 'up.log'}")
        return SYSTEM_CLOCK.monotonic()
