"""What may be done about an effect: a pure decision.

An effect is written down before it is sent (intent) and after (receipt). Between the two it is in doubt, and its
class says how the doubt is settled. Two more rules keep a fence honest where it cannot reach: a negative lookup
counts only once the call can no longer succeed, and an effect of a worker that only *seems* dead (its lease ran
out) is left alone until then.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from relit.store.values import Doubt

Finding = Literal["unknown", "found", "absent"]


class Act(msgspec.Struct, frozen=True):
    """Send it (again, with the same key)."""


class Look(msgspec.Struct, frozen=True):
    """Ask whether it happened."""


class Hold(msgspec.Struct, frozen=True):
    """Wait until ``until`` (ms since 1970), then decide again."""

    until: int


class Ask(msgspec.Struct, frozen=True):
    """A person decides: park the run."""


class Accept(msgspec.Struct, frozen=True):
    """The lookup found it: record what it found."""


Move = Act | Look | Hold | Ask | Accept


def recover(doubt: Doubt, *, deadline_at: int, now: int, expired: bool, finding: Finding = "unknown") -> Move:
    """What to do about an intent without a receipt. ``expired``: its worker is not proven dead."""
    if finding == "found":
        return Accept()
    if expired and now < deadline_at:
        return Hold(deadline_at)
    if doubt == "ask":
        return Ask()
    if doubt == "key":
        return Act()
    if finding == "unknown":
        return Look()
    return Act() if now >= deadline_at else Hold(deadline_at)


def after_failure(doubt: Doubt, *, certain: bool) -> Literal["retry", "doubt", "ask"]:
    """What a failed call means. ``certain``: the function said that it did not happen (``EffectNotDone``).

    ``retry``: by policy, at once. ``doubt``: look first. ``ask``: a person decides.
    """
    if certain or doubt == "key":
        return "retry"
    return "doubt" if doubt == "lookup" else "ask"
