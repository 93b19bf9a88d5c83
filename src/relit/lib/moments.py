"""Moments as people write them: ``14:02``, ``yesterday 9:30``, ``10 minutes ago``, ``2026-01-31T09:00``, ``@MS``.

And what names a snapshot besides: a number, a tag, an id.
"""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta, tzinfo
from typing import NamedTuple

from relit.lib.durations import to_ms

_CLOCK = re.compile(r"(?:(today|yesterday)(?:\s+|$))?(?:at\s+)?(?:(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?)?")
_AGO = re.compile(r"(.+?)\s*ago")
_PART = re.compile(r"(\d+(?:\.\d+)?|an?)\s*([a-z]+)[\s,]*(?:and\s+)?")
_WORDS = {
    "second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "hr": "h", "day": "d", "week": "w",
    "ms": "ms", "s": "s", "m": "m", "h": "h", "d": "d", "w": "w",
}  # fmt: skip
_STAMP = re.compile(r"@(\d{1,15})")
_NUMBER = re.compile(r"#?(\d{1,9})")
_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
_WAYS = "write 14:02, 'yesterday 9:30', '10 minutes ago' or 2026-01-31T09:00"
_SLACK_MS = 60_000  # clocks of two machines may differ by this much


class Number(NamedTuple):
    """A snapshot by its number."""

    number: int


class At(NamedTuple):
    """The newest snapshot that is not newer than this moment."""

    ms: int


class Named(NamedTuple):
    """A snapshot by its id or one of its tags."""

    name: str


When = Number | At | Named


def read_when(text: str, now_ms: int, zone: tzinfo | None = None) -> When:
    """What ``text`` means: a number, a moment, else a name. Raises ``ValueError``."""
    word = text.strip()
    if match := _NUMBER.fullmatch(word):
        return Number(int(match[1]))
    if _ID.fullmatch(word):
        return Named(word)
    if _TAG.fullmatch(word) and not _is_moment(word, now_ms, zone):
        return Named(word)
    return At(parse_moment(word, now_ms, zone))


def fixed(text: str, now_ms: int, zone: tzinfo | None = None) -> str:
    """``text`` with a moment written as ``@MS``, which means the same later and elsewhere. Raises ``ValueError``."""
    found = read_when(text, now_ms, zone)
    return f"@{found.ms}" if isinstance(found, At) else text.strip()


def check_tag(text: str, now_ms: int = 0) -> str:
    """``text`` if it can be a tag: nothing that reads as a number, a moment or an id. Raises ``ValueError``."""
    if not _TAG.fullmatch(text) or _ID.fullmatch(text) or _is_moment(text, now_ms, None):
        raise ValueError(f"{text!r} cannot be a tag: a letter first, then letters, digits, - _ . ; not a time or an id")
    return text


def parse_moment(text: str, now_ms: int, zone: tzinfo | None = None) -> int:
    """A moment in ms since 1970; ``zone`` None is the machine's own. Raises ``ValueError``.

    A time of day without a day is the last one that has come: today's, or else yesterday's.
    """
    word = " ".join(text.lower().split())
    if match := _STAMP.fullmatch(word):
        return int(match[1])  # fixed elsewhere, by another clock
    found = _relative(word, text, now_ms)
    if found is None:
        found = _time_of_day(word, text, now_ms, zone)
    if found is None:
        found = _iso(text.strip(), zone)
    if found > now_ms + _SLACK_MS:
        raise ValueError(f"{text!r} has not come yet")
    return found


def _is_moment(text: str, now_ms: int, zone: tzinfo | None) -> bool:
    try:
        parse_moment(text, now_ms, zone)
    except ValueError:
        return False
    return True


def _relative(word: str, text: str, now_ms: int) -> int | None:
    if word == "now":
        return now_ms
    if match := _AGO.fullmatch(word):
        return max(0, now_ms - _span(match[1], text))
    return None


def _span(word: str, text: str) -> int:
    total, end = 0, 0
    while match := _PART.match(word, end):
        unit = match[2] if match[2] in _WORDS else match[2].removesuffix("s")
        if unit not in _WORDS:
            break
        count = "1" if match[1].startswith("a") else match[1]
        total += to_ms(f"{count}{_WORDS[unit]}")
        end = match.end()
    if end == 0 or end < len(word):
        raise ValueError(f"{text!r} is not a time: write '10 minutes ago', '2h ago' or '1d 3h ago'")
    return total


def _time_of_day(word: str, text: str, now_ms: int, zone: tzinfo | None) -> int | None:
    match = _CLOCK.fullmatch(word)
    if not match or not word:
        return None
    day, hour, minute, second, part = match.groups()
    try:
        clock = time(int(hour or 0), int(minute or 0), int(second or 0), int((part or "0").ljust(3, "0")) * 1000)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time of day: {error}") from error
    today = datetime.fromtimestamp(now_ms / 1000, zone).date()
    if day:
        return _ms(datetime.combine(today - timedelta(days=day == "yesterday"), clock, zone))
    # the hour that a clock set back has twice: its second pass, if that has come
    tries = [
        datetime.combine(today - timedelta(days=back), clock, zone).replace(fold=fold)
        for back in (0, 1, 2)
        for fold in (1, 0)
    ]
    return next(ms for each in tries if (ms := _ms(each)) <= now_ms)


def _iso(text: str, zone: tzinfo | None) -> int:
    try:
        parsed = datetime.fromisoformat(text)
        return _ms(parsed if parsed.tzinfo else parsed.replace(tzinfo=zone))
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{text!r} is not a time: {_WAYS}") from error


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
