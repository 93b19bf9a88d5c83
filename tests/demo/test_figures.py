"""The figures are counted from evidence, and a broken bound fails the demo."""

from __future__ import annotations

import msgspec
import pytest

from relit.demo import figures
from relit.demo.figures import Blow, Breakdown, Errand, Figures, Kept, Mishap, Squeeze
from relit.demo.witness import Line

MISHAP = Mishap(at=5.0, to=4.0, restored=7.0, seconds=2.5, notes=3, lost=0, differing=0)
ERRAND = Errand(bought=2, replayed=3, arrived=1, answered=True, seconds=2.0)
SQUEEZED = Squeeze(made_room_s=0.2, answered=True, seconds=3.0)
BROKEN = Breakdown(found_ms=4, healed_s=1.2, rung=3, as_before=True, kept=True)
GOOD = Figures(
    sent=3, completed=3, wrong=0, steps=20, blows=[Blow(1.0, "worker", 7, 1.5), Blow(2.0, "server", 8, None)],
    steps_again=1, bought_twice=1, findings=2, delivered=2, delivered_twice=0, raw_requests=3, seconds=9.0,
    notes=3, versions=Kept(snapshots=4, freezes_ms=[2.0, 9.0, 3.0], packed=4096, home=2048), mishap=MISHAP,
    breakdown=BROKEN, errand=ERRAND, squeeze=SQUEEZED, steps_redone=4, bought_again=1,
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
        {"notes": 2},
        {"redone_needlessly": 1},
        {"mishap": msgspec.structs.replace(MISHAP, lost=1)},
        {"mishap": msgspec.structs.replace(MISHAP, differing=1)},
        {"breakdown": None},
        {"errand": None},
        {"squeeze": None},
        {"squeeze": msgspec.structs.replace(SQUEEZED, made_room_s=6.0)},
        {"squeeze": msgspec.structs.replace(SQUEEZED, answered=False)},
        {"squeeze": msgspec.structs.replace(SQUEEZED, seconds=16.0)},
        {"errand": msgspec.structs.replace(ERRAND, bought=3)},
        {"errand": msgspec.structs.replace(ERRAND, arrived=2)},
        {"errand": msgspec.structs.replace(ERRAND, answered=False)},
        {"breakdown": msgspec.structs.replace(BROKEN, healed_s=11.0)},
        {"breakdown": msgspec.structs.replace(BROKEN, rung=1)},
        {"breakdown": msgspec.structs.replace(BROKEN, as_before=False)},
        {"breakdown": msgspec.structs.replace(BROKEN, kept=False)},
    ],
)
def test_each_bound_that_breaks_fails(fault: dict[str, object]) -> None:
    assert not figures.kept(msgspec.structs.replace(GOOD, **fault))


def test_a_body_that_begins_again_is_counted_and_effects_are_left_to_the_sink() -> None:
    lines = [Line(1, 1, "read", "a"), Line(2, 2, "read", "a"), Line(3, 2, "read", "b"), Line(4, 1, "notify", "a x")]
    assert figures.apart(figures.bodies([*lines, Line(5, 2, "notify", "a x")]), None) == (1, 0)


def test_what_the_restore_takes_back_is_counted_apart_from_what_a_kill_costs() -> None:
    killed = [(1.0, "a"), (2.0, "a")]
    failed_as_the_notes_vanished = [(4.9, "b"), (5.1, "b")]
    taken_back = [(4.5, "c"), (7.5, "c")]
    killed_later = [(8.0, "d"), (9.0, "d")]
    begins = sorted([*killed, *failed_as_the_notes_vanished, *taken_back, *killed_later])
    assert figures.apart(begins, MISHAP) == (2, 2)


def test_what_was_under_way_in_the_snapshot_or_began_since_may_be_done_again() -> None:
    before = [Line(1, 1, "read", "a"), Line(2, 1, "read", "b x"), Line(2.1, 1, "read", "b y"), Line(3, 2, "ask", "c")]
    since = [Line(4.5, 1, "ask", "b"), Line(6, 2, "note", "c")]
    again = [Line(8, 3, *line.place) for line in [*before[1:], *since]]
    assert figures.needlessly([*before, *since, *again], MISHAP) == 0


def test_what_the_snapshot_had_as_done_must_not_be_done_again() -> None:
    before = [Line(1, 1, "read", "a"), Line(2, 1, "ask", "a")]
    assert figures.needlessly([*before, Line(8, 3, "read", "a"), Line(9, 3, "ask", "a")], MISHAP) == 1
    assert figures.needlessly([*before, Line(3, 3, "read", "a")], MISHAP) == 0  # a kill's work


def test_a_storm_without_its_mishap_fails_and_no_storm_needs_none() -> None:
    assert not figures.kept(msgspec.structs.replace(GOOD, mishap=None))
    calm = msgspec.structs.replace(GOOD, mishap=None, breakdown=None, blows=[], steps_again=0, bought_twice=0)
    assert figures.kept(calm)


def test_the_freezes_show_median_and_longest() -> None:
    row = next(row for row in figures.rows(GOOD) if row.label == "it stood still for each")
    assert row.value == "median 3 ms, longest 9 ms"


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
