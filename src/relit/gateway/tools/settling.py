"""What is done when an attempt to make a call did not end well. Pure.

Never a blind retry: whether a call may be sent again is a matter of its effect, and of whether anything can have
happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relit.store.tools import Effect

ATTEMPTS = 3
FIRST_S, FACTOR, MOST_S = 0.5, 3.0, 10.0


@dataclass(frozen=True)
class Again:
    """Send it once more, so many seconds later, with the same key."""

    seconds: float


@dataclass(frozen=True)
class Look:
    """Ask whether it happened; not before so many seconds have passed."""

    seconds: float


@dataclass(frozen=True)
class End:
    """Nothing more is done. ``failed``: it certainly did not happen."""

    state: Literal["failed", "in_doubt"]
    why: str


Move = Again | Look | End


def pause(attempt: int, told: float | None = None) -> float | None:
    """Seconds before the next attempt; ``None``: whoever is to be waited for is too slow."""
    wait = min(MOST_S, FIRST_S * FACTOR ** (attempt - 1)) if told is None else told
    return wait if wait <= MOST_S else None


def not_sent(why: str, attempt: int, *, retry: bool, told: float | None) -> Move:
    """Nothing happened, that is certain."""
    wait = pause(attempt, told)
    return Again(wait) if retry and attempt < ATTEMPTS and wait is not None else End("failed", why)


def unsure(why: str, effect: Effect, attempt: int, left: float) -> Move:
    """Nobody knows. ``left``: seconds until the attempt can certainly have no further effect."""
    if effect == "lookup":
        return Look(max(0.0, left))
    if effect == "ask":
        return End("in_doubt", why)
    wait = pause(attempt)
    if attempt < ATTEMPTS and wait is not None:
        return Again(wait)
    return End("failed" if effect == "read" else "in_doubt", why)


def absent(attempt: int) -> Move:
    """It was asked, after that moment, and had not happened."""
    return Again(0.0) if attempt < ATTEMPTS else End("in_doubt", "it was sent, looked for, and not found")


def by_itself(effect: Effect, *, known: bool) -> bool:
    """Whether a call in doubt may be settled without anybody's word: it is looked for first, or its key is certainly
    ``known`` still. What was to be set with ``natural-key`` may be set otherwise by now."""
    return effect == "lookup" or (effect == "native-key" and known)


def left_open(effect: Effect, *, known: bool) -> Literal["failed", "in_doubt", "send", "look"]:
    """A gateway died between the intent and the receipt. ``known``: as above."""
    match effect:
        case "read":
            return "failed"
        case "lookup":
            return "look"
        case "natural-key":
            return "send"
        case _:
            return "send" if by_itself(effect, known=known) else "in_doubt"
