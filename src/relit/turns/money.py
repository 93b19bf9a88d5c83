"""Whether a turn waits for money: in its last life something that it asked of a model was refused by a budget. Pure.

Such a turn has failed nothing. It goes on once its budget has room for that call: at midnight (UTC), when the budget is
raised, or when calls under way have cost less than was reserved for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from relit.store.values import ModelCall, Spending

SOON_MS = 1_000  # after midnight: clocks differ
_DAY_MS = 86_400_000


class Shortage(msgspec.Struct, frozen=True):
    """``call``: the one that was refused. ``why``: which budget. ``wait_ms``: until there certainly is money for it; 0:
    there is. ``hopeless``: it may cost more than a whole day's budget."""

    call: str
    why: str
    wait_ms: int = 0
    hopeless: bool = False


def shortage(
    calls: Sequence[ModelCall], limits: Mapping[str, int], spent: Sequence[Spending], now_ms: int
) -> Shortage | None:
    """Of a turn with these calls, in their order. ``limits`` by scope, in the unit of calls; ``spent``: of today.
    ``None``: nothing was refused in its last life."""
    refused = [each for each in calls if each.life == calls[-1].life and each.state == "refused"]
    if not refused:
        return None
    last = refused[-1]
    day, _, scope = last.budgets.partition(" ")
    why = f"the budget of {scope} for today is spent"
    limit = limits.get(scope)
    if limit is None:
        return Shortage(last.id, why)
    wants = max(1, last.reserved)
    if wants > limit:
        return Shortage(last.id, f"a call of it may cost more than the whole budget of {scope}", hopeless=True)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    used = sum(each.spent + each.reserved for each in spent if each.scope == scope)
    if day != now.date().isoformat() or limit - used >= wants:
        return Shortage(last.id, why)
    return Shortage(last.id, why, _DAY_MS - now_ms % _DAY_MS + SOON_MS)
