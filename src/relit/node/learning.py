"""What starts take, as all nodes measured it: each tells the server what it learnt, and hears what others did."""

from __future__ import annotations

import asyncio

from relit.control.base import Control
from relit.control.values import Measured
from relit.errors import RelitError
from relit.node.gate import Gate
from relit.pressure.footprint import Footprint

LOOK_S = 10.0  # between looks whether something was learnt, or the server is there
EVERY_S = 600.0  # between questions what others did


class Learning:
    """Of one node."""

    def __init__(self, control: Control, gate: Gate) -> None:
        self._control = control
        self._gate = gate
        self._told: dict[str, Footprint] = {}

    async def run(self) -> None:
        """For ever. While the server is away the node has what it knew."""
        due = 0.0
        while True:
            if due <= 0 or self._told != self._gate.known:
                try:
                    await self.share()
                    due = EVERY_S
                except RelitError:
                    due = 0.0
            await asyncio.sleep(LOOK_S)
            due -= LOOK_S

    async def share(self) -> None:
        """Once. What more starts tell of holds. RelitError."""
        told = dict(self._gate.known)
        mine = [_measured(of, each) for of, each in told.items() if self._told.get(of) != each]
        for each in await self._control.footprints(mine):
            known = self._gate.known.get(each.of)
            if known is None or each.seen > known.seen:
                heard = Footprint(each.peak, each.settled, each.cpu_s, each.seen)
                self._gate.known[each.of] = told[each.of] = heard
        self._told = told


def _measured(of: str, each: Footprint) -> Measured:
    return Measured(of=of, peak=each.peak, settled=each.settled, cpu_s=each.cpu_s, seen=each.seen)
