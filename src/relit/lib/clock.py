"""The only module that reads a clock. Everything else is handed a ``Clock``."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Three kinds of time, never mixed: wall (ms since 1970), boot (ms, runs on in suspend) and monotonic (s)."""

    def now_ms(self) -> int: ...

    def boot_ms(self) -> int: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def boot_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


SYSTEM_CLOCK = SystemClock()

EARLIEST_PLAUSIBLE_MS = 1_735_689_600_000  # 2025-01-01: a wall clock before this was never set


def iso(ms: int) -> str:
    """``ms`` since 1970 as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
