"""What to do with a provider's refusal, as long as the agent has seen nothing of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import Random

from relit.gateway.health import blames
from relit.lib.backoff import delay

WAIT_MOST = 20.0  # seconds: who is told to wait for longer passes that on, or goes elsewhere
FIRST, FACTOR, JITTER = 0.5, 2.0, 0.25
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})  # another try may succeed


@dataclass(frozen=True)
class Wait:
    """Ask the same provider again, so many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Next:
    """Ask the one that stands in for it."""


@dataclass(frozen=True)
class Pass:
    """The agent gets it as it is."""


Verdict = Wait | Next | Pass


def refused(
    status: int, headers: Mapping[str, str], *, attempt: int, retries: int, others: bool, now_s: float, chance: Random
) -> Verdict:
    """After attempt number ``attempt`` (from 1) was answered with that status. ``headers``: names in small letters;
    ``others``: somebody stands in for this provider."""
    if status in _PASSING and attempt <= retries and headers.get("x-should-retry") != "false":
        told = asked_to_wait(headers, now_s)
        wait = backoff(attempt, chance) if told is None else told
        if wait <= WAIT_MOST:
            return Wait(wait)
    return Next() if others and blames(status) else Pass()


def broken(*, attempt: int, retries: int, heard: bool, others: bool, chance: Random) -> Verdict:
    """After an attempt that was not answered. ``heard``: it may have been, and is paid for once at most."""
    if attempt <= retries and not heard:
        return Wait(backoff(attempt, chance))
    return Next() if others else Pass()


def backoff(attempt: int, chance: Random) -> float:
    """Seconds, where the provider does not say."""
    return delay(attempt, first=FIRST, factor=FACTOR, most=WAIT_MOST, jitter=JITTER, chance=chance)


def asked_to_wait(headers: Mapping[str, str], now_s: float) -> float | None:
    """The seconds of ``retry-after-ms`` or ``retry-after`` (a number, or a date: RFC 9110, 10.2.3); ``None``: none."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    told = headers.get("retry-after")
    if (seconds := _number(told)) is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(told or "").timestamp() - now_s)
    except (ValueError, OverflowError, OSError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
