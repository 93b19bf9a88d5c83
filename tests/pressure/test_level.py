"""Memory is green, amber or red: tighter at once, easier after a while, and looked at before it is too late."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relit.pressure.admission import Room
from relit.pressure.footprint import MB
from relit.pressure.level import BURST, LEAST_S, LOOK_S, SLOW_S, Pressure, marks, next_s, seen

GB = 1 << 30
ALL = 16 * GB
MARKS = marks(ALL, BURST)


def looked(*looks: tuple[float, int], capacity: int = ALL, reserve: int = 0) -> list[Pressure]:
    """What is known after each look, (seconds, free bytes)."""
    found = [Pressure()]
    for at, free in looks:
        found.append(seen(found[-1], Room(capacity, free), at, reserve=reserve))
    return found[1:]


def test_the_less_is_free_the_tighter_it_is() -> None:
    for free, level in ((8 * GB, "green"), (MARKS.amber - 1, "amber"), (MARKS.red - 1, "red")):
        assert looked((0, free))[-1].level == level


def test_what_will_be_full_soon_is_amber_before_the_mark() -> None:
    near = MARKS.amber + 200 * MB
    assert looked((0, near + 300 * MB), (1, near + 150 * MB), (2, near))[-1].level == "amber"
    assert looked((0, near + 2 * MB), (1, near + 1 * MB), (2, near))[-1].level == "green"


def test_far_from_the_marks_a_rate_alone_is_no_reason() -> None:
    assert looked((0, 12 * GB), (1, 8 * GB))[-1].level == "green"


def test_it_is_easier_only_after_a_while_of_clearly_more_room() -> None:
    low, barely, much = MARKS.amber - 1, round(MARKS.amber * 1.1), MARKS.amber * 2
    found = looked((0, low), *((second, barely) for second in range(1, 30)))
    assert found[-1].level == "amber"
    found = looked((0, low), *((second, much) for second in range(1, 30)))
    assert [each.level for each in found].count("amber") == 11
    assert found[-1].level == "green"


def test_one_look_that_is_bad_again_begins_the_while_anew() -> None:
    low, much = MARKS.amber - 1, MARKS.amber * 2
    looks = [(float(second), low if second == 8 else much) for second in range(1, 16)]
    assert looked((0, low), *looks)[-1].level == "amber"


def test_from_red_it_goes_over_amber() -> None:
    levels = [each.level for each in looked((0, 1), *((second, 12 * GB) for second in range(1, 40)))]
    assert levels[:2] == ["red", "red"]
    assert [now for before, now in pairwise(levels) if now != before] == ["amber", "green"]


def test_the_reserve_grows_with_the_fastest_growth_that_was_seen() -> None:
    found = looked((0, 14 * GB), (0.1, 13 * GB))
    assert found[-1].burst == 10 * GB
    assert marks(64 * GB, found[-1].burst).red > marks(64 * GB, BURST).red
    later = looked((0, 14 * GB), (0.1, 13 * GB), (3600, 13 * GB))[-1]
    assert later.burst < BURST * 1.1, "it is forgotten"


def test_small_machines_keep_most_of_their_memory() -> None:
    found = marks(GB, BURST)
    assert found.amber <= GB // 8
    assert found.red <= GB // 16


def test_what_the_settings_want_free_is_amber_when_it_is_not() -> None:
    assert looked((0, 3 * GB), reserve=0)[-1].level == "green"
    assert looked((0, 3 * GB), reserve=3 * GB + 1)[-1].level == "amber"


@given(st.integers(min_value=0, max_value=ALL))
def test_the_next_look_comes_before_the_red_can_be_reached(free: int) -> None:
    now = looked((0, free))[-1]
    wait = next_s(now)
    assert LEAST_S <= wait <= SLOW_S
    if now.level == "green" and wait > LEAST_S:
        assert free - BURST * wait > MARKS.red
    if now.level != "green":
        assert wait <= LOOK_S


def test_a_small_machine_is_looked_at_more_often_when_it_is_short() -> None:
    assert next_s(looked((0, 10 * MB), capacity=GB)[-1]) == LEAST_S


def test_with_much_room_it_is_looked_at_once_a_second() -> None:
    assert next_s(looked((0, 12 * GB))[-1]) == SLOW_S


@given(
    st.lists(st.tuples(st.floats(min_value=0.001, max_value=100), st.integers(min_value=0, max_value=ALL)), max_size=60)
)
def test_whatever_comes_levels_are_left_for_easier_ones_only_with_room(steps: list[tuple[float, int]]) -> None:
    """Bursts, gaps between looks, sawtooth: it never says green while there is less than the mark."""
    now, at = Pressure(), 0.0
    for after, free in steps:
        at += after
        before, now = now, seen(now, Room(ALL, free), at)
        mark = marks(ALL, now.burst)
        assert not (now.level == "green" and free < mark.amber)
        assert not (free < mark.red and now.level != "red")
        if (before.level, now.level) == ("amber", "green"):
            assert free >= mark.amber * 1.25
        assert now.since <= at
        assert len(now.looks) < 200


def test_a_clock_that_jumps_or_stands_still_tells_no_rate() -> None:
    for second in (2.0, 1.0, 500.0):
        now = looked((1.0, 14 * GB), (2.0, 12 * GB), (second, 3 * GB))[-1]
        assert (now.rate, now.full_s) == (0.0, None)
