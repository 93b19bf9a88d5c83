"""Restart tokens of a node: when many instances die again and again, they are not all started again at once."""

from __future__ import annotations

from relit.lib.clock import Clock

CAPACITY = 200  # more instances than one machine holds may die together and be back at once
PER_S = 10.0


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
