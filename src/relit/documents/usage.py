"""Calls to models, and what they cost."""

from __future__ import annotations

import msgspec

from relit.store.values import CallState

_USD = 1_000_000_000


class ModelCall(msgspec.Struct, kw_only=True):
    """One call of an agent to a model. ``run``: the turn that it belongs to; absent: none was under way. Tokens:
    ``cached`` and ``written`` of ``input`` came from, or went into, the provider's cache. ``cost`` in US dollars;
    ``estimated``: the provider did not say what was used. A ``replayed`` one was given the answer of ``source``, an
    earlier call of its turn, and ``saved`` what that had cost."""

    id: str
    agent: str
    run: str | None = None
    number: int = 0
    route: str
    protocol: str = ""
    model: str = ""
    state: CallState
    status: int = 0
    why: str = ""
    started_at: int
    ended_at: int | None = None
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    estimated: bool = False
    cost: float = 0.0
    source: str | None = None
    saved: float = 0.0


class ModelCalls(msgspec.Struct, kw_only=True):
    """Calls, in the order that was asked for."""

    calls: list[ModelCall]


class UsageSum(msgspec.Struct, kw_only=True):
    """What an agent has used of a model on one day (UTC). ``cost`` in US dollars."""

    day: str
    agent: str
    route: str
    model: str
    calls: int
    failed: int
    input: int
    output: int
    cached: int
    written: int
    cost: float


class BudgetState(msgspec.Struct, kw_only=True):
    """What was spent today (UTC) of what has a budget, and is reserved by calls under way, in US dollars."""

    scope: str
    day: str
    spent: float
    reserved: float


class UsageReport(msgspec.Struct, kw_only=True):
    """Sums, oldest day first, and today's budgets."""

    usage: list[UsageSum]
    budgets: list[BudgetState]


def dollars(amount: int) -> float:
    """Of the store's amounts."""
    return amount / _USD
