"""Which queued runs of a mailbox may start: pure. The store locks the mailbox, asks, and gives out places."""

from __future__ import annotations

import msgspec

UNLIMITED = 1000  # places given out at once by a mailbox without a limit


class Box(msgspec.Struct, frozen=True):
    """A mailbox as admission sees it. ``active`` runs hold a place."""

    name: str
    concurrency: int | None
    key_concurrency: int | None
    depth: int | None
    rate: float | None
    burst: int
    paused: bool
    tokens: float
    refilled_at: int
    queued: int
    active: int


class Verdict(msgspec.Struct, frozen=True):
    """``places`` may be given out now; after that the bucket holds ``tokens - used`` (see ``spend``)."""

    places: int
    tokens: float


def decide(box: Box, now: int) -> Verdict:
    """How many more runs of ``box`` may get a place at ``now`` (ms)."""
    tokens = refill(box, now)
    if box.paused:
        return Verdict(0, tokens)
    free = UNLIMITED if box.concurrency is None else max(0, box.concurrency - box.active)
    return Verdict(free if box.rate is None else min(free, int(tokens)), tokens)


def refill(box: Box, now: int) -> float:
    """The token bucket at ``now``. A clock that went back adds nothing."""
    if box.rate is None:
        return float(box.burst)
    return min(float(box.burst), box.tokens + box.rate * max(0, now - box.refilled_at) / 1000)


def next_token_at(box: Box, tokens: float, now: int) -> int | None:
    """When the bucket will hold one whole token, or None when there is no rate limit or a token is there already."""
    if box.rate is None or tokens >= 1:
        return None
    return now + max(1, round((1 - tokens) / box.rate * 1000))


def retry_after(box: Box) -> float:
    """Seconds until a full mailbox can be expected to have room; a bounded guess: nobody can know."""
    if box.rate is not None:
        return min(60.0, max(1.0, 1 / box.rate))
    return 60.0 if box.paused else 5.0
