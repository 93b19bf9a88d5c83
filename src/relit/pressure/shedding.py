"""Who has to make room when memory is short, and how. Pure.

One at a time, and the next only when its memory is back or does not come. When it is amber: somebody who does nothing,
and who comes back with his next message. When it is red: whoever frees something, by the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from relit.pressure.admission import AGES_S, Waiting
from relit.pressure.footprint import MB
from relit.pressure.level import Pressure, marks

Deed = Literal["freeze", "stop", "kill"]
A_MINUTE = 6  # are shed in one, while it is amber
WOKEN_S = 60.0  # who was woken is left alone for so long, while it is amber
REST_S = 2.0  # who has just ended something may have to go on with it
BACK_S = 3.0  # so long the memory of one who was shed may take to come back
KILLED_S = 0.5  # of one who was killed
_RETURN_S, _RETURN_MOST_S = 10.0, 600.0
_SCORE_LEAST, _SCORE_MOST = 300, 900
_SURGE = 0.5  # of all growth: who makes so much of it is what the trouble comes from
COLD_S = 60.0  # whose pages were moved out is left alone for so long
_COLD_LEAST = 64 * MB
_WORTH = 0.05  # of what is missing: who holds less does not help
_LEAST = 8 * MB


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who could make room. ``grown``: bytes since the look before; ``cost_s``: CPU seconds of its next start;
    ``idle``: no message is worked on, and nothing of its effects is open, for ``rested_s``; ``then``: how it is parked
    (``keep``: not while it is amber); ``woken_at``: when it was, last; ``going``: it makes room already;
    ``frozen``: it has, as far as there was swap."""

    name: str
    priority: int
    resident: int
    grown: int = 0
    cost_s: float = 1.0
    over: bool = False
    idle: bool = True
    rested_s: float = 60.0
    effect: bool = False
    then: Literal["freeze", "stop", "keep"] = "stop"
    woken_at: float | None = None
    going: bool = False
    frozen: bool = False


class Shed(msgspec.Struct, frozen=True):
    """Somebody who was told to make room: when, how, and how much was free then."""

    name: str
    at: float
    deed: Deed
    resident: int
    free: int


class Choice(msgspec.Struct, frozen=True):
    """Who, how and why."""

    name: str
    deed: Deed
    reason: str


def choose(
    now: Pressure, tenants: Sequence[Tenant], shed: Sequence[Shed], at: float, reserve: int = 0
) -> Choice | None:
    """Who is next; ``None``: nobody, or not yet. ``shed``: those of the last minutes, the newest last."""
    if not due(now, shed, at):
        return None
    if now.level == "amber":
        found = [each for each in tenants if _amber(each, at)]
    else:
        found = [each for each in tenants if not each.going or _hastens(now, each, shed)]
        found = [each for each in found if not (each.frozen and _slow(now))]  # it gives no more while there is time
    found = _worth(found, _missing(now, reserve))
    if not found:
        return None
    grown = sum(max(0, each.grown) for each in found)
    victim = min(found, key=lambda each: order(each, grown))
    return Choice(victim.name, _deed(now, victim), reason(now, victim, grown))


def due(now: Pressure, shed: Sequence[Shed], at: float) -> bool:
    """Whether it is time to look for somebody."""
    if now.level == "green" or now.calm_at is not None or _awaited(now, shed, at):
        return False
    return now.level == "red" or sum(at - each.at < 60 for each in shed) < A_MINUTE


def displaced(
    now: Pressure, wants: Waiting, tenants: Sequence[Tenant], shed: Sequence[Shed], at: float
) -> Choice | None:
    """Who makes room for somebody who waits to start: one who has been idle for a moment and is not more important.
    Whoever waits becomes more important with time."""
    if _awaited(now, shed, at):
        return None
    points = wants.priority + (at - wants.since) / AGES_S
    rested = [each for each in tenants if _rests(each) and each.rested_s >= REST_S]
    found = [each for each in rested if each.priority <= points and each.resident >= _LEAST]
    if not found:
        return None
    victim = min(found, key=lambda each: order(each, 0))
    what = f"it holds {victim.resident // MB} MB, priority {victim.priority}, idle"
    return Choice(
        victim.name, "freeze" if victim.then == "freeze" else "stop", f"{wants.name} waits for memory; {what}"
    )


def cold(now: Pressure, tenants: Sequence[Tenant], moved: Mapping[str, float], at: float) -> list[Tenant]:
    """Whose memory moves into swap while it goes on, when nobody can be parked: what it needs comes back, page by page,
    and the rest stays out. The best first: those that rest. ``moved``: whose did, and when."""
    if now.level != "amber" or now.calm_at is not None:
        return []
    found = [
        each for each in tenants
        if not each.going and not each.frozen and each.resident >= _COLD_LEAST
        and at - moved.get(each.name, float("-inf")) >= COLD_S
    ]  # fmt: skip
    return sorted(found, key=lambda each: (not each.idle, each.priority, -each.resident, each.name))


def returns_s(times: int) -> float:
    """Seconds until who was parked ``times`` times lately comes back by itself: longer each time."""
    return float(min(_RETURN_MOST_S, _RETURN_S * 2 ** min(20, times - 1)))


def line(tenants: Sequence[Tenant]) -> list[Tenant]:
    """All, the first to go first."""
    return sorted(tenants, key=lambda each: order(each, 0))


def scores(tenants: Sequence[Tenant]) -> dict[str, int]:
    """The same for the kernel, as ``oom_score_adj``. It adds a thousandth of all memory for each point, so that what
    somebody holds decides among neighbours alone."""
    found = line(tenants)
    step = (_SCORE_MOST - _SCORE_LEAST) // max(1, len(found) - 1) if len(found) > 1 else 0
    return {each.name: _SCORE_MOST - place * step for place, each in enumerate(found)}


def fresh_score(priority: int) -> int:
    """The same of one that has just started, and was not looked at yet."""
    return _SCORE_MOST - (_SCORE_MOST - _SCORE_LEAST) * min(100, max(0, priority)) // 100


def order(each: Tenant, grown: int) -> tuple[bool, int, bool, bool, bool, float, str]:
    """Over its own limit, the less important, what the trouble comes from, nothing open, idle, most memory for the
    cheapest start."""
    surges = grown > 0 and each.grown >= grown * _SURGE
    return (
        not each.over, each.priority, not surges, each.effect, not each.idle,
        -each.resident / max(0.1, each.cost_s), each.name,
    )  # fmt: skip


def _amber(each: Tenant, at: float) -> bool:
    return _rests(each) and (each.woken_at is None or at - each.woken_at >= WOKEN_S)


def _rests(each: Tenant) -> bool:
    return each.idle and not each.effect and not each.going and not each.frozen and each.then != "keep"


def _hastens(now: Pressure, each: Tenant, shed: Sequence[Shed]) -> bool:
    """Whether there is no time any more for one who makes room in good order."""
    return not _slow(now) and not any(one.name == each.name and one.deed == "kill" for one in shed)


def _awaited(now: Pressure, shed: Sequence[Shed], at: float) -> bool:
    """Whether memory of the last one is still to come back."""
    if not shed:
        return False
    last = shed[-1]
    patience = KILLED_S if last.deed == "kill" or not _slow(now) else BACK_S
    return at - last.at < patience and now.free - last.free < last.resident / 2


def _missing(now: Pressure, reserve: int) -> int:
    """Bytes until it is green again."""
    return max(0, marks(now.capacity, now.burst, reserve).amber - now.free)


def _worth(found: Sequence[Tenant], missing: int) -> list[Tenant]:
    helps = [each for each in found if each.resident >= (_LEAST if each.over else max(_LEAST, missing * _WORTH))]
    return helps or [each for each in found if each.resident > 0]


def _deed(now: Pressure, victim: Tenant) -> Deed:
    if now.level == "red" and not (victim.idle and _slow(now)):
        return "kill"  # also one who makes room already, and takes too long
    return "freeze" if victim.then == "freeze" else "stop"


def _slow(now: Pressure) -> bool:
    """Whether there is time for good order."""
    return now.level != "red" or now.full_s is None or now.full_s > BACK_S


def reason(now: Pressure, victim: Tenant, grown: int = 0) -> str:
    """In words, for people: what it was decided from."""
    why = [f"memory is {now.level}: {now.free // MB} of {now.capacity // MB} MB are free"]
    if now.full_s is not None and now.full_s < 60:
        why.append(f"full in {now.full_s:.0f} s at this rate")
    what = [f"it holds {victim.resident // MB} MB", f"priority {victim.priority}"]
    if victim.over:
        what.append("more than its limit")
    if grown > 0 and victim.grown >= grown * _SURGE:
        what.append("it grows most")
    what.append("idle" if victim.idle else "at work")
    return "; ".join(["; ".join(why), ", ".join(what)])
