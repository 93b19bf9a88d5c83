from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from relit.control.values import Backoff
from relit.drivers.base import Exit
from relit.node.supervise import History, Verdict, adopts, classify, decide

POLICY = Backoff()
HOUR = 3_600_000


def after(deaths: int, *, lived_ms: int = 10, policy: Backoff = POLICY, seed: int = 1) -> Verdict:
    verdict, now = Verdict(0, "", False, History()), 0
    for _ in range(deaths):
        now += lived_ms
        verdict = decide(verdict.history, "failed", lived_ms=lived_ms, now_ms=now, policy=policy, chance=Random(seed))
        now += verdict.delay_ms
    return verdict


def test_the_first_restart_is_immediate() -> None:
    assert after(1).delay_ms == 0


def test_further_restarts_wait_twice_as_long_each_time_up_to_the_most() -> None:
    exact = Backoff(jitter=0)
    assert [after(n, policy=exact).delay_ms for n in range(1, 10)] == [
        0, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000,
    ]  # fmt: skip


def test_there_is_no_last_attempt() -> None:
    verdict = after(5000)
    assert 0 < verdict.delay_ms <= POLICY.most_ms
    assert verdict.history.restarts == 5000
    assert len(verdict.history.deaths) <= 100


def test_a_stable_life_makes_the_next_restart_immediate() -> None:
    worn = after(8).history
    verdict = decide(worn, "failed", lived_ms=POLICY.stable_ms, now_ms=HOUR, policy=POLICY, chance=Random(1))
    assert verdict.delay_ms == 0
    assert after(1).history.quick == verdict.history.quick == 1


def test_a_configuration_error_is_not_tried_again_in_haste() -> None:
    verdict = decide(History(), "config", lived_ms=10, now_ms=10, policy=POLICY, chance=Random(1))
    assert verdict.delay_ms == POLICY.most_ms


def test_many_deaths_in_the_window_are_flapping() -> None:
    assert not after(POLICY.flapping - 1).flapping
    assert after(POLICY.flapping).flapping


def test_old_deaths_leave_the_window() -> None:
    assert not after(50, lived_ms=POLICY.window_ms).flapping


def test_exits_are_told_apart() -> None:
    ends = [Exit(code=0), Exit(code=1), Exit(code=78), Exit(signal=9), Exit()]
    assert [classify(end) for end in ends] == ["clean", "failed", "config", "killed", "unknown"]


def test_only_the_same_spec_is_adopted() -> None:
    assert adopts("a", "a")
    assert not adopts("a", "b")
    assert not adopts("", "b")
    assert not adopts("a", None)


@given(
    quick=st.integers(0, 10_000),
    lived=st.integers(0, 10 * HOUR),
    first=st.integers(0, 100_000),
    most=st.integers(0, 1_000_000),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_the_wait_stays_within_its_bounds(
    quick: int, lived: int, first: int, most: int, jitter: float, seed: int
) -> None:
    policy = Backoff(first_ms=first, most_ms=most, jitter=jitter)
    verdict = decide(History(quick), "killed", lived_ms=lived, now_ms=0, policy=policy, chance=Random(seed))
    assert 0 <= verdict.delay_ms <= most
    assert verdict.reason
    assert verdict.history.restarts == 1
