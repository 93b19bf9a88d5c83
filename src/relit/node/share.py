"""The share of a machine's memory that all agents may hold together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from relit.lib import proc
from relit.lib.clock import Clock
from relit.lib.footprint import Forest, look
from relit.pressure.admission import Room

FAMILY_S = 1.0  # so long is it believed who belongs to whom: to find that out needs a look at every process


class Share:
    """``most`` bytes, for the trees below ``mains``."""

    def __init__(
        self, machine: Callable[[], Room], most: int, mains: Callable[[], Iterable[int]], clock: Clock
    ) -> None:
        self._machine = machine
        self._most = most
        self._mains = mains
        self._clock = clock
        self._pids: set[int] = set()
        self._known: tuple[float, tuple[int, ...]] = (0.0, ())

    def room(self) -> Room:
        """What is left of it, or of the machine where that is less."""
        found = self._machine()
        left = max(0, self._most - sum(map(proc.resident, self._family())))
        return min(found, Room(min(self._most, found.capacity), left), key=lambda room: room.free)

    def _family(self) -> set[int]:
        now, mains = self._clock.monotonic(), tuple(self._mains())
        if now - self._known[0] >= FAMILY_S or mains != self._known[1]:
            forest = Forest(look())
            self._pids = {pid for main in mains for pid in forest.members(main)}
            self._known = now, mains
        return self._pids
