"""The figures are counted from evidence, and a broken bound fails the demo."""

from __future__ import annotations

import msgspec
import pytest

from relit.demo import figures
from relit.demo.figures import Blow, Figures
from relit.demo.witness import Line

GOOD = Figures(
    sent=3, completed=3, wrong=0, steps=20, blows=[Blow(1.0, "worker", 7, 1.5), Blow(2.0, "server", 8, None)],
    steps_again=1, bought_twice=1, findings=2, delivered=2, delivered_twice=0, raw_requests=3, seconds=9.0,
)  # fmt: skip


def test_kept_bounds_pass() -> None:
    assert figures.kept(GOOD)


@pytest.mark.parametrize(
    "fault",
    [
        {"completed": 2},
        {"wrong": 1},
        {"steps_again": 3},
        {"bought_twice": 3},
        {"delivered": 1},
        {"delivered_twice": 1},
    ],
)
def test_each_bound_that_breaks_fails(fault: dict[str, int]) -> None:
    assert not figures.kept(msgspec.structs.replace(GOOD, **fault))


def test_a_body_that_begins_again_is_counted_and_effects_are_left_to_the_sink() -> None:
    lines = [Line(1, 1, "read", "a"), Line(2, 2, "read", "a"), Line(3, 2, "read", "b"), Line(4, 1, "notify", "a x")]
    assert figures.begun_again([*lines, Line(5, 2, "notify", "a x")]) == 1


def test_work_is_resumed_when_another_process_goes_on_with_it() -> None:
    lines = [Line(1, 1, "read", "a"), Line(2, 2, "read", "b"), Line(4, 2, "ask", "b"), Line(5, 2, "ask", "a x")]
    assert figures.resumption(lines, pid=1, at=3) == ("a", 5)


def test_work_that_nobody_went_on_with_is_told_by_name() -> None:
    assert figures.resumption([Line(1, 1, "read", "a"), Line(5, 2, "ask", "c")], pid=1, at=3) == ("a", None)


def test_a_process_that_never_began_anything_holds_nothing() -> None:
    assert figures.resumption([Line(5, 2, "ask", "c")], pid=1, at=3) == (None, None)


def test_the_times_show_median_and_longest() -> None:
    row = next(row for row in figures.rows(GOOD) if row.label.startswith("from kill"))
    assert row.value == "median 0.50 s, longest 0.50 s"
