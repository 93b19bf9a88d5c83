"""The storm is drawn before it begins."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from relit.demo import plan


def test_ten_kills_hit_workers_the_server_and_the_node() -> None:
    assert Counter(strike.role for strike in plan.draw(10, Random(1))) == {"worker": 7, "server": 2, "node": 1}


@given(st.integers(0, 100), st.integers())
def test_as_many_strikes_as_asked_in_the_order_of_the_work(kills: int, seed: int) -> None:
    strikes = plan.draw(kills, Random(seed))
    assert len(strikes) == kills
    assert [s.share for s in strikes] == sorted(s.share for s in strikes)


def test_a_seed_tells_the_whole_storm() -> None:
    assert plan.draw(10, Random(7)) == plan.draw(10, Random(7))
