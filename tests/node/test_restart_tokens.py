"""How many are started again at once."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.lib.clock import SystemClock
from relit.node.storm import CAPACITY, PER_S, Tokens


class Set(SystemClock):
    """Shows what it is set to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_as_many_as_there_are_tokens_go_at_once_and_more_one_after_the_other() -> None:
    tokens = Tokens(Set())
    assert {tokens.wait_s() for _ in range(CAPACITY)} == {0}
    assert [tokens.wait_s() for _ in range(3)] == pytest.approx([1 / PER_S, 2 / PER_S, 3 / PER_S])


def test_tokens_come_back_with_time_and_are_never_more_than_at_first() -> None:
    clock = Set()
    tokens = Tokens(clock, 3, 10)
    assert [tokens.wait_s() for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    clock.now += 0.3
    assert [tokens.wait_s() for _ in range(2)] == pytest.approx([0, 0.1])
    clock.now += 3600
    assert [tokens.wait_s() for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


@given(st.lists(st.floats(0, 2), min_size=1, max_size=60))
def test_in_no_span_of_time_more_are_started_than_it_gives_tokens_for(gaps: list[float]) -> None:
    clock = Set()
    tokens, starts = Tokens(clock, 5, 4), []
    for gap in gaps:
        clock.now += gap
        starts.append(clock.now + tokens.wait_s())
    starts.sort()
    for number, begin in enumerate(starts):
        for span in (0, 0.5, 3):
            assert bisect_right(starts, begin + span) - number <= 5 + 4 * span + 1e-6
