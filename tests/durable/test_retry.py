"""When to try again: pure."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.durable.retry import Again, GiveUp, Retry, decide, pause
from relit.errors import EffectNotDone, StepTimeout, Unserialisable


@given(st.integers(1, 50), st.integers(1, 50))
def test_attempts_are_a_limit(attempt: int, attempts: int) -> None:
    verdict = decide(attempt, OSError(), Retry(attempts=attempts), Random(0))
    assert isinstance(verdict, Again) == (attempt < attempts)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_pause_never_exceeds_its_most(attempt: int, jitter: float) -> None:
    policy = Retry(first="1s", factor=2, most="30s", jitter=jitter)
    assert 0 <= pause(attempt, policy, Random(attempt)) <= 30_000


def test_the_pause_doubles() -> None:
    policy = Retry(first=1, factor=2, most="1h", jitter=0)
    assert [pause(n, policy, Random(0)) for n in (1, 2, 3, 4)] == [1000, 2000, 4000, 8000]


@pytest.mark.parametrize("error", [Unserialisable("x"), EffectNotDone("x"), KeyError("x")])
def test_some_errors_are_not_mended_by_trying(error: Exception) -> None:
    assert decide(1, error, Retry(no_retry_on=(LookupError,)), Random(0)) == GiveUp("not retryable")


def test_a_timeout_is_worth_another_try() -> None:
    assert isinstance(decide(1, StepTimeout("x"), Retry(), Random(0)), Again)
