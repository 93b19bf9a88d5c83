"""Which of those that wait may start now: as much as fits into memory, and no more at once than the CPU can bear. Pure.

A start that is under way has what it needs at its peak set aside for it, until it has settled. Whoever waits gains
priority with time, so that nobody waits for ever; and while the first in line does not fit, smaller ones may go before
it only for a while.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from relit.pressure.footprint import MB, Footprint

AGES_S = 6.0  # seconds of waiting that count as much as one point of priority: 100 points are ten minutes
HEAVY_S = 1.0  # CPU seconds of a start that are much
PASSED_S = 30.0  # so long the first in line lets smaller ones pass


class Room(msgspec.Struct, frozen=True):
    """Bytes that there are for everybody, and how many of them are free now."""

    capacity: int
    free: int


class Going(msgspec.Struct, frozen=True):
    """A start under way, which has ``resident`` bytes already. ``ready``: it costs no more CPU than others do."""

    name: str
    footprint: Footprint
    resident: int = 0
    ready: bool = False


class Waiting(msgspec.Struct, frozen=True):
    """Somebody who wants to start. ``since``: seconds, of the same clock as ``now``."""

    name: str
    footprint: Footprint
    priority: int
    since: float


class Verdict(msgspec.Struct, frozen=True):
    """Who starts, in this order, and for each other one why not yet. ``short``: bytes that the first in line lacks."""

    start: list[str]
    reasons: dict[str, str]
    short: int = 0


def admit(
    room: Room, going: Sequence[Going], waiting: Sequence[Waiting], *, reserve: int, at_once: int, now: float
) -> Verdict:
    """``reserve``: bytes that are to stay free; ``at_once``: starts that the CPU bears, of those that need much of it.
    Something that is larger than the machine starts when nothing else does: it may be smaller than it was thought."""
    free, places = (
        room.free - reserve - set_aside(going),
        at_once - sum(_heavy(each) for each in going if not each.ready),
    )
    start: list[str] = []
    reasons: dict[str, str] = {}
    held, short = "", 0
    for each in line(waiting, now):
        need = each.footprint.peak
        if places <= 0 and _heavy(each):
            reasons[each.name] = f"{at_once} starts are under way, as many as the CPU bears"
        elif held:
            reasons[each.name] = f"it is behind {held}, which waits for memory"
        elif need <= free or (need > room.capacity - reserve and not going and not start):
            start.append(each.name)
            free, places = free - need, places - _heavy(each)
        else:
            reasons[each.name] = f"it needs {_mb(need)}, and {_mb(max(0, free))} are free beside the reserve"
            short = short or need - free
            held = each.name if now - each.since > PASSED_S else ""
    return Verdict(start, reasons, short)


def _heavy(each: Going | Waiting) -> bool:
    return each.footprint.cpu_s >= HEAVY_S


def set_aside(going: Sequence[Going]) -> int:
    """Bytes that starts under way will still take."""
    return sum(max(0, each.footprint.peak - each.resident) for each in going)


def line(waiting: Sequence[Waiting], now: float) -> list[Waiting]:
    """Those who wait, the first one first."""
    return sorted(waiting, key=lambda each: (-(each.priority + (now - each.since) / AGES_S), each.since, each.name))


def _mb(size: int) -> str:
    return f"{size // MB} MB"
