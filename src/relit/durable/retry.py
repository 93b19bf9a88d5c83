"""When to try a failed step again: a pure decision."""

from __future__ import annotations

from random import Random

import msgspec

from relit.errors import RelitError
from relit.lib import backoff
from relit.lib.durations import Duration, to_ms


class Retry(msgspec.Struct, frozen=True):
    """How often and how fast to try again. Times are durations (``"1s"``, seconds, ``timedelta``).

    ``no_retry_on`` names exception classes that another try cannot mend; relit's own errors say so themselves.
    """

    attempts: int = 3
    first: Duration = 1
    factor: float = 2.0
    most: Duration = 60
    jitter: float = 0.1
    no_retry_on: tuple[type[BaseException], ...] = ()


ONCE = Retry(attempts=1)


class Again(msgspec.Struct, frozen=True):
    """Try again after ``delay_ms``."""

    delay_ms: int


class GiveUp(msgspec.Struct, frozen=True):
    """Do not try again."""

    reason: str


def retryable(error: BaseException, policy: Retry) -> bool:
    """Whether another try can help at all."""
    if isinstance(error, policy.no_retry_on):
        return False
    return not isinstance(error, RelitError) or error.retry


def pause(attempt: int, policy: Retry, chance: Random) -> int:
    """Milliseconds between failed attempt number ``attempt`` (from 1) and the next."""
    seconds = backoff.delay(
        attempt,
        first=to_ms(policy.first) / 1000,
        factor=policy.factor,
        most=to_ms(policy.most) / 1000,
        jitter=policy.jitter,
        chance=chance,
    )
    return round(seconds * 1000)


def decide(attempt: int, error: BaseException, policy: Retry, chance: Random) -> Again | GiveUp:
    """What follows failed attempt number ``attempt`` (from 1)."""
    if not retryable(error, policy):
        return GiveUp("not retryable")
    if attempt >= policy.attempts:
        return GiveUp(f"{attempt} of {policy.attempts} attempts used")
    return Again(pause(attempt, policy, chance))
