"""How tight memory is: green, amber or red, how long it lasts at this rate, and when to look again. Pure.

It becomes tighter at once, and easier only when there is clearly more room for a while. The reserve is what the fastest
growth that was seen takes between two looks; while there is more room than that, looks may be rare.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from relit.pressure.admission import Room
from relit.pressure.footprint import MB

Level = Literal["green", "amber", "red"]
BURST = 4 << 30  # bytes a second, until more was seen: a process that fills memory does 1 to 4.5 GB/s
_BURST_MOST = 4 * BURST  # more is no growth: a limit was changed
_FORGETS_S = 600.0  # until half of what was seen above that is forgotten
LEAST_S, LOOK_S, SLOW_S = 0.01, 0.05, 1.0  # between looks: at the least, while it is not green, at the most
_LATE_S = 0.01  # a look comes so much later than it should
_MARGIN = 1.2
_SHARE = 16  # the reserve is never more than this part of everything: small machines have to live, too
_LEAST = 32 * MB
_AMBER = 2.0  # reserves that are free: less is amber
_FULL_S = 20.0  # full so soon, that is amber: where no more than ``_NEAR`` ambers are free
_NEAR = 2.0
_OUT = 1.25  # times the mark that has to be free until it is over
_DWELL_S: dict[Level, float] = {"amber": 10.0, "red": 2.0, "green": 0.0}
_SPAN_S = 3.0  # over which growth is measured
_GAP_S = 5.0  # between looks: what was before does not count


class Marks(msgspec.Struct, frozen=True):
    """Bytes: with less than that free it is so."""

    amber: int
    red: int


class Look(msgspec.Struct, frozen=True):
    """Free bytes at a moment, in seconds of a clock that never goes back."""

    at: float
    free: int


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """As it is now. ``rate``: bytes a second by which there is less; ``full_s``: until nothing is left, at that rate;
    ``calm_at``: since when there has been enough for the next easier level; ``looks``: the newest ones."""

    level: Level = "green"
    since: float = 0.0
    capacity: int = 0
    free: int = 0
    rate: float = 0.0
    full_s: float | None = None
    burst: float = BURST
    calm_at: float | None = None
    looks: tuple[Look, ...] = ()


def marks(capacity: int, burst: float, reserve: int = 0) -> Marks:
    """Where the levels begin. ``reserve``: what the settings want to stay free."""
    red = min(max(_LEAST, round(_MARGIN * burst * (LOOK_S + _LATE_S))), capacity // _SHARE)
    return Marks(amber=max(round(red * _AMBER), min(reserve, capacity // 2)), red=red)


def seen(before: Pressure, room: Room, at: float, *, reserve: int = 0) -> Pressure:
    """After one more look."""
    looks = _kept(before.looks, at)
    burst = max(_faded(before, at), min(_BURST_MOST, _fell(looks[-1:], at, room.free)))
    rate = _fell(looks[:1], at, room.free)
    full_s = room.free / rate if rate > 0 else None
    mark = marks(room.capacity, burst, reserve)
    level, calm_at = _level(before, room.free, full_s, mark, at)
    return Pressure(
        level=level, since=at if level != before.level else before.since, capacity=room.capacity, free=room.free,
        rate=max(0.0, rate), full_s=full_s, burst=burst, calm_at=calm_at, looks=(*looks, Look(at, room.free)),
    )  # fmt: skip


def next_s(now: Pressure, reserve: int = 0) -> float:
    """Seconds until the next look: before the fastest growth that was seen could get from here into the red."""
    red = marks(now.capacity, now.burst, reserve).red
    if now.level != "green":  # on a small machine the reserve is smaller than what it should be
        return min(LOOK_S, max(LEAST_S, red / (_MARGIN * now.burst) - _LATE_S))
    return min(SLOW_S, max(LEAST_S, (now.free - red) / (_MARGIN * now.burst)))


def _faded(before: Pressure, at: float) -> float:
    if not before.looks:
        return before.burst
    passed = max(0.0, at - before.looks[-1].at)
    return float(BURST + (before.burst - BURST) * 0.5 ** (passed / _FORGETS_S))


def _kept(looks: tuple[Look, ...], at: float) -> tuple[Look, ...]:
    """Those that tell how it grows."""
    if not looks or not 0 < at - looks[-1].at <= _GAP_S:
        return ()
    return tuple(each for each in looks if at - each.at <= _SPAN_S) or looks[-1:]


def _fell(looks: tuple[Look, ...], at: float, free: int) -> float:
    return (looks[0].free - free) / max(LOOK_S / 2, at - looks[0].at) if looks else 0.0


def _level(before: Pressure, free: int, full_s: float | None, mark: Marks, at: float) -> tuple[Level, float | None]:
    """(the level, since when it has been calm)."""
    now = _named(free, full_s, mark, 1.0)
    if _RANK[now] >= _RANK[before.level]:
        return now, None
    easier = _named(free, full_s, mark, _OUT)
    if _RANK[easier] >= _RANK[before.level]:
        return before.level, None
    calm_at = at if before.calm_at is None else before.calm_at
    if at - calm_at < _DWELL_S[before.level]:
        return before.level, calm_at
    return _EASIER[before.level], at if easier == "green" and before.level == "red" else None


def _named(free: int, full_s: float | None, mark: Marks, times: float) -> Level:
    if free < mark.red * times:
        return "red"
    soon = full_s is not None and full_s < _FULL_S and free < mark.amber * _NEAR
    return "amber" if soon or free < mark.amber * times else "green"


_RANK: dict[Level, int] = {"green": 0, "amber": 1, "red": 2}
_EASIER: dict[Level, Level] = {"red": "amber", "amber": "green", "green": "green"}
