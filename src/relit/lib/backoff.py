"""Exponential back-off with jitter, as a pure function."""

from __future__ import annotations

from random import Random


def delay(attempt: int, *, first: float, factor: float, most: float, jitter: float, chance: Random) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (from 1).

    The delay grows from ``first`` by ``factor`` up to ``most``; ``jitter`` (0–1) takes away up to that share of it.
    """
    # factor ** attempt overflows long before anyone waits that long: cap the exponent.
    full = min(most, first * factor ** min(attempt - 1, 64))
    return full * (1 - jitter * chance.random())
