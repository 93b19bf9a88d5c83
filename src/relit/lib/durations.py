"""Durations, sizes and times as people write them: ``90s``, ``10m``, ``2h``, ``1d``; ``300M``, ``2G``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
_SIZE_UNIT = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

Duration = str | int | float | timedelta


def to_ms(value: Duration) -> int:
    """Milliseconds of a duration: ``"1h30m"``, seconds as a number, or a ``timedelta``. Raises ``ValueError``."""
    if isinstance(value, timedelta):
        return _positive(round(value.total_seconds() * 1000), value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _positive(round(value * 1000), value)
    return _parse(value)


def _positive(ms: int, value: object) -> int:
    if ms < 0:
        raise ValueError(f"a duration cannot be negative: {value!r}")
    return ms


def _parse(text: object) -> int:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a duration: write 90s, 10m, 2h or 1d")
    total, end = 0.0, 0
    while match := _PART.match(text, end):
        total += float(match[1]) * _UNIT_MS[match[2]]
        end = match.end()
    if end == 0 or text[end:].strip():
        raise ValueError(f"{text!r} is not a duration: write 90s, 10m, 2h or 1d")
    return round(total)


def to_bytes(text: str | int) -> int:
    """Bytes of a size (``300M``, ``2G``; powers of 1024). Raises ``ValueError``."""
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size: write 300M or 2G")
    return round(float(match[1]) * _SIZE_UNIT[match[2].upper()])


def human(ms: float) -> str:
    """A duration for a person's eye: ``12ms``, ``3.4s``, ``5m 02s``, ``2h 10m``, ``3d 4h``."""
    if ms < 1000:
        return f"{ms:.0f}ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f}s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h"


def size(count: float) -> str:
    """Bytes for a person's eye: ``512 B``, ``3.4K``, ``120M``, ``2.0G`` (powers of 1024)."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in "KMGT":
        count /= 1024
        if count < 1023.5 or unit == "T":
            break
    return f"{count:.0f}{unit}" if count >= 99.95 else f"{count:.1f}{unit}"
