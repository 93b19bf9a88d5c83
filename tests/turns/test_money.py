"""Whether a turn waits for money."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relit.store.sql.calls import day_of
from relit.store.values import ModelCall, Spending
from relit.turns.money import SOON_MS, shortage

SCOPE = "agent:scout"
DAY_MS = 86_400_000
MIDNIGHT = 1_800_057_600_000  # of some day, UTC
NOW = MIDNIGHT + 20 * 3_600_000


def refused(now_ms: int = NOW, **options: Any) -> ModelCall:
    given = {"id": "c", "agent": "scout", "route": "r", "gateway": "g", "state": "refused", "reserved": 30}
    return ModelCall(**(given | {"budgets": f"{day_of(now_ms)} {SCOPE}"} | options))


def spent(amount: int, reserved: int = 0, scope: str = SCOPE) -> Spending:
    return Spending(scope=scope, day=day_of(NOW), spent=amount, reserved=reserved)


def test_who_was_not_refused_in_its_last_life_is_not_short() -> None:
    assert shortage([], {SCOPE: 100}, [], NOW) is None
    lives = [refused(life="1"), refused(life="2", state="done")]
    assert shortage(lives, {SCOPE: 100}, [spent(100)], NOW) is None


def test_who_asked_something_small_afterwards_is_short_all_the_same() -> None:
    found = shortage([refused(id="main"), refused(id="title", state="done")], {SCOPE: 100}, [spent(100)], NOW)
    assert found is not None
    assert found.call == "main"


def test_it_waits_while_there_is_no_room_for_what_it_asked() -> None:
    found = shortage([refused()], {SCOPE: 100}, [spent(60, 15), spent(0, scope="model:r")], NOW)
    assert found is not None
    assert (found.why, found.wait_ms, found.hopeless) == (
        f"the budget of {SCOPE} for today is spent",
        4 * 3_600_000 + SOON_MS,
        False,
    )


def test_room_is_there_when_others_cost_less_when_the_budget_is_raised_or_gone_and_at_midnight() -> None:
    cases = [
        ({SCOPE: 100}, [spent(60, 10)], NOW),
        ({SCOPE: 105}, [spent(60, 15)], NOW),
        ({}, [spent(60, 15)], NOW),
        ({SCOPE: 100}, [], NOW + 4 * 3_600_000),
    ]
    for limits, sums, now in cases:
        found = shortage([refused()], limits, sums, now)
        assert found is not None
        assert (found.wait_ms, found.hopeless) == (0, False)


def test_what_no_days_budget_can_pay_is_hopeless() -> None:
    found = shortage([refused(reserved=101)], {SCOPE: 100}, [], NOW)
    assert found is not None
    assert (found.hopeless, found.wait_ms) == (True, 0)
    assert SCOPE in found.why


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200), st.integers(0, DAY_MS - 1))
def test_it_waits_exactly_while_the_same_call_would_be_refused(limit: int, used: int, wants: int, at: int) -> None:
    now = MIDNIGHT + at
    found = shortage([refused(now, reserved=wants)], {SCOPE: limit}, [spent(used)], now)
    assert found is not None
    assert (found.wait_ms > 0 or found.hopeless) == (limit - used < max(1, wants))
    assert found.hopeless == (limit < max(1, wants))
    assert 0 <= found.wait_ms <= DAY_MS + SOON_MS
