"""What may be done about an effect: pure, over all cases."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.durable.effects import Accept, Act, Ask, Finding, Hold, Look, after_failure, recover
from relit.store.values import Doubt

doubts = st.sampled_from(get_args(Doubt))
findings = st.sampled_from(get_args(Finding))
moments = st.integers(0, 100)


@given(doubts, moments, moments, findings)
def test_nothing_is_sent_before_the_deadline_of_a_worker_that_may_live(
    doubt: Doubt, deadline: int, now: int, finding: Finding
) -> None:
    move = recover(doubt, deadline_at=deadline, now=now, expired=True, finding=finding)
    if now < deadline:
        assert isinstance(move, (Hold, Accept))


@given(moments, moments, st.booleans(), findings)
def test_ask_never_sends(deadline: int, now: int, expired: bool, finding: Finding) -> None:
    assert not isinstance(recover("ask", deadline_at=deadline, now=now, expired=expired, finding=finding), (Act, Look))


@given(moments, moments, st.booleans(), findings)
def test_lookup_sends_only_after_a_negative_answer_past_the_deadline(
    deadline: int, now: int, expired: bool, finding: Finding
) -> None:
    move = recover("lookup", deadline_at=deadline, now=now, expired=expired, finding=finding)
    assert isinstance(move, Act) == (finding == "absent" and now >= deadline)


@given(doubts, moments, moments, st.booleans())
def test_what_was_found_is_accepted(doubt: Doubt, deadline: int, now: int, expired: bool) -> None:
    assert recover(doubt, deadline_at=deadline, now=now, expired=expired, finding="found") == Accept()


@pytest.mark.parametrize(("doubt", "move"), [("key", Act()), ("lookup", Look()), ("ask", Ask())])
def test_each_class_has_its_way(doubt: Doubt, move: object) -> None:
    assert recover(doubt, deadline_at=10, now=5, expired=False) == move


def test_a_hold_names_the_deadline() -> None:
    assert recover("lookup", deadline_at=10, now=5, expired=False, finding="absent") == Hold(10)


@pytest.mark.parametrize(
    ("doubt", "certain", "meaning"),
    [
        ("key", False, "retry"), ("key", True, "retry"), ("lookup", False, "doubt"), ("lookup", True, "retry"),
        ("ask", False, "ask"), ("ask", True, "retry"),
    ],
)  # fmt: skip
def test_a_failed_call_means_what_its_class_says(doubt: Doubt, certain: bool, meaning: str) -> None:
    assert after_failure(doubt, certain=certain) == meaning
