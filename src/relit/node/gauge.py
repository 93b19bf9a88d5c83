"""What the node knows of memory, for whoever asks: a small file beside its record, written in place at each look."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from relit.pressure.level import Level
from relit.pressure.space import Space

NAME = "memory.json"
_SIZE = 16 << 10  # bytes: one write, so that it is read whole
_FEW = 30
STALE_S = 30.0


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """Who waits, or is parked: why; and what its start takes, or to wake it: bytes at its peak, CPU seconds."""

    name: str
    reason: str
    peak: int = 0
    cpu_s: float = 0.0


class Gauge(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, at ``at_ms`` (since 1970). With less than ``amber`` and ``red`` free it is so. ``reserved``: what starts
    under way (``going``) will still take; ``short``: what the first of those that wait lacks. ``next``: who would make
    room, the first one first. Of hundreds that wait or are parked the first are told; ``…_count``: how many there are,
    and ``wake_cpu_s``: what it takes to wake all. ``other``: another node's process that counts all memory as its own,
    too. ``disk``: of the data folder."""

    at_ms: int = 0
    level: Level = "green"
    capacity: int = 0
    free: int = 0
    amber: int = 0
    red: int = 0
    full_s: float | None = None
    reserved: int = 0
    short: int = 0
    going: list[str] = []
    waiting: list[Guest] = []
    parked: list[Guest] = []
    waiting_count: int = 0
    parked_count: int = 0
    wake_cpu_s: float = 0.0
    next: list[str] = []
    other: int | None = None
    disk: Space = Space()


class GaugeFile:
    """Of one node."""

    def __init__(self, run_dir: Path) -> None:
        self._fd = os.open(run_dir / NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, gauge: Gauge) -> None:
        """As it is now. A full disk costs a look, no more."""
        data = msgspec.json.encode(gauge)
        if len(data) > _SIZE:  # hundreds wait: the first are told
            few = msgspec.structs.replace(
                gauge, waiting=gauge.waiting[:_FEW], parked=gauge.parked[:_FEW], next=gauge.next[:_FEW],
                going=gauge.going[:_FEW],
            )  # fmt: skip
            data = msgspec.json.encode(few)[:_SIZE]
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, data.ljust(_SIZE), 0)

    def close(self) -> None:
        """There is no more to tell."""
        os.close(self._fd)


def read(run_dir: Path, now_ms: int) -> Gauge | None:
    """``None``: no node has told anything lately."""
    try:
        found = msgspec.json.decode((run_dir / NAME).read_bytes(), type=Gauge)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if 0 <= now_ms - found.at_ms <= STALE_S * 1000 else None
