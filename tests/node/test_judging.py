"""When an agent counts as silent, and a start as too slow: in simulated time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relit.node.judging import PATIENCE, RETRY, STALLED, Misses, Start

ANSWERS = st.lists(st.booleans(), min_size=1, max_size=60)


@given(answers=ANSWERS, most=st.integers(1, 6))
def test_only_so_many_misses_in_a_row_are_silence(answers: list[bool], most: int) -> None:
    misses = Misses(most)
    for number, answered in enumerate(answers, start=1):
        misses = misses.heard(answered=answered)
        last = answers[max(0, number - most) : number]
        assert misses.silent == (len(last) == most and not any(last))


@given(
    span=st.floats(0.1, 60), most=st.integers(1, 6), timeout=st.floats(0, 10), dies=st.floats(0, 300),
    first=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_what_stops_answering_is_found_within_its_misses(
    span: float, most: int, timeout: float, dies: float, first: float
) -> None:
    now, misses = span * first, Misses(most)
    while not misses.silent:
        answered = now < dies
        misses = misses.heard(answered=answered)
        now += 0 if answered else timeout
        if not misses.silent:
            now += misses.wait(span)
    took = now - dies
    assert took <= span + (most - 1) * RETRY * span + most * timeout + 1e-6
    assert misses.row == most


@given(answers=ANSWERS, span=st.floats(0.1, 60))
def test_one_that_answers_is_not_asked_more_often_than_its_span(answers: list[bool], span: float) -> None:
    misses = Misses(3)
    for answered in answers:
        misses = misses.heard(answered=answered)
        assert misses.wait(span) == (span if answered else span * RETRY)


STEPS = st.lists(st.tuples(st.floats(0.01, 30), st.booleans()), min_size=1, max_size=80)


@given(steps=STEPS, most=st.floats(1, 120))
def test_a_start_is_given_up_when_it_stands_still_or_has_had_its_patience(
    steps: list[tuple[float, bool]], most: float
) -> None:
    start, now, marks, moved = Start(0.0, 0.0, (0, 0)), 0.0, 0, 0.0
    for wait, moves in steps:
        now += wait
        if moves:
            marks, moved = marks + 1, now
        start = start.seen((marks, 0), now)
        given_up = start.too_slow(now, most)
        if now <= most:
            assert not given_up, "it has its time"
        elif now > most * PATIENCE:
            assert given_up, "no start lasts for ever"
        else:
            assert given_up == (now - moved > most / STALLED)
