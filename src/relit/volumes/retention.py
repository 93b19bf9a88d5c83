"""Which snapshots are kept, and why. Pure.

Tiers are written ``1h all, 2d hourly, 30d daily, 26w weekly``: of what is younger than an hour everything, younger than
two days one an hour, and so on. Of each hour, day or week (in UTC) the newest snapshot stays. The newest of a day
is the newest of its hour, too, so pruning often and pruning seldom end at the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from relit.lib.durations import to_ms

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY
_MONDAY = 3 * _DAY  # 1970-01-01 was a Thursday
_STEPS = {"all": 0, "hourly": _HOUR, "daily": _DAY, "weekly": _WEEK}
YOUNG_MS = _HOUR  # a pack this young may belong to a snapshot that is just being taken
_EXAMPLE = "1h all, 2d hourly, 30d daily"


class Tier(NamedTuple):
    """One of each ``step_ms`` (0: all) of what is younger than ``span_ms`` (None: for ever)."""

    span_ms: int | None
    step_ms: int
    text: str


class Dated(NamedTuple):
    """What retention looks at of a snapshot."""

    number: int
    at_ms: int
    pinned: bool = False
    tags: Sequence[str] = ()


def parse_keep(text: str) -> tuple[Tier, ...]:
    """Tiers out of their text. Raises ``ValueError``."""
    tiers = tuple(_tier(" ".join(part.split()), text) for part in text.split(","))
    for before, after in pairwise(tiers):
        if before.span_ms is None or (after.span_ms is not None and after.span_ms <= before.span_ms):
            raise ValueError(f"{after.text!r} after {before.text!r} keeps nothing: write tiers from short to long")
        if after.step_ms <= before.step_ms:
            raise ValueError(f"{after.text!r} after {before.text!r} is not coarser: all, hourly, daily, weekly")
    return tiers


def _tier(part: str, text: str) -> Tier:
    span, _, step = part.rpartition(" ")
    if step not in _STEPS or not span:
        raise ValueError(f"{part or text!r} is not SPAN all|hourly|daily|weekly; an example: {_EXAMPLE}")
    if span == "forever":
        return Tier(None, _STEPS[step], part)
    ms = to_ms(span)
    if ms == 0:
        raise ValueError(f"{part!r} keeps nothing: leave it out")
    return Tier(ms, _STEPS[step], part)


def keep(snapshots: Iterable[Dated], tiers: Sequence[Tier], now_ms: int) -> dict[int, str]:
    """The snapshots that stay, by number, each with the reason. All others may be dropped."""
    newest_first = sorted(snapshots, key=lambda each: each.number, reverse=True)
    kept: dict[int, str] = {}
    seen: set[tuple[int, int]] = set()
    for place, each in enumerate(newest_first):
        reasons = [*(["newest"] if place == 0 else []), *_marked(each), *_tiered(each, tiers, now_ms, seen)]
        if reasons:
            kept[each.number] = reasons[0]
    return kept


def _marked(each: Dated) -> Iterator[str]:
    if each.pinned:
        yield "pinned"
    yield from (f"tagged {tag}" for tag in each.tags)


def _tiered(each: Dated, tiers: Sequence[Tier], now_ms: int, seen: set[tuple[int, int]]) -> list[str]:
    """The tiers that keep it. Takes its place in their hours, days and weeks: older ones there are not needed."""
    found: list[str] = []
    for tier in tiers:
        if tier.span_ms is not None and now_ms - each.at_ms >= tier.span_ms:
            continue
        slot = (tier.step_ms, (each.at_ms + _MONDAY) // tier.step_ms) if tier.step_ms else (0, each.number)
        if slot not in seen:
            seen.add(slot)
            found.append(tier.text)
    return found
