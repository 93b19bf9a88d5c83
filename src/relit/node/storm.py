"""Restart tokens of a node: when many instances die again and again, they are not all started again at once."""

from __future__ import annotations

from relit.lib.clock import Clock

CAPACITY = 200  # so many may die together and be back at once, beside those whose next life stands ready
PER_S = 10.0

FAULT_S, FAULT_MOST_S = 1.0, 60.0  # the first pause after a fault, and the longest
QUIET_S = 600.0
FAULTS = 3  # in a row, and a person is told


class Tokens:
    """A bucket that fills by itself. ``wait_s`` takes one and answers how long to wait before using it."""

    def __init__(self, clock: Clock, capacity: float = CAPACITY, per_s: float = PER_S) -> None:
        self._clock = clock
        self._capacity = capacity
        self._per_s = per_s
        self._left = capacity
        self._at = clock.monotonic()

    def wait_s(self) -> float:
        """Those who come while it is empty wait longer, one after the other."""
        now = self._clock.monotonic()
        self._left = min(self._capacity, self._left + (now - self._at) * self._per_s) - 1
        self._at = now
        return max(0.0, -self._left / self._per_s)


class Faults:
    """Of relit's own, at one instance. They are followed by ever longer pauses; a while without one forgets them."""

    def __init__(self) -> None:
        self._count = 0
        self._last = 0.0

    def another(self, now: float) -> float:
        """There is one at ``now`` (seconds); answers how long to wait."""
        self._count = self._count + 1 if now - self._last <= QUIET_S else 1
        self._last = now
        return float(min(FAULT_MOST_S, FAULT_S * 2 ** min(self._count - 1, 10)))

    @property
    def many(self) -> bool:
        """More than chance."""
        return self._count >= FAULTS
