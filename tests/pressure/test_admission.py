"""Starts fit into memory, and nobody waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relit.pressure.admission import Going, Room, Verdict, Waiting, admit, line, set_aside
from relit.pressure.footprint import MB, Footprint

CLAW = Footprint(1000 * MB, 640 * MB, 15.0)
SMALL = Footprint(100 * MB, 60 * MB, 0.2)


def asks(name: str, footprint: Footprint = CLAW, priority: int = 50, since: float = 0.0) -> Waiting:
    return Waiting(name, footprint, priority, since)


def decided(
    free_mb: int, waiting: list[Waiting], going: list[Going] | None = None, *, at_once: int = 4, now: float = 0.0
) -> Verdict:
    return admit(Room(16_000 * MB, free_mb * MB), going or [], waiting, reserve=500 * MB, at_once=at_once, now=now)


def test_as_many_start_as_fit() -> None:
    verdict = decided(2700, [asks("a"), asks("b"), asks("c")])
    assert verdict.start == ["a", "b"]
    assert verdict.reasons == {"c": "it needs 1000 MB, and 200 MB are free beside the reserve"}
    assert verdict.short == 800 * MB


def test_what_starts_under_way_will_still_take_is_not_free() -> None:
    assert decided(2700, [asks("b"), asks("c")], [Going("a", CLAW, 300 * MB)]).start == ["b"]


def test_a_start_that_is_ready_costs_no_more_cpu_and_has_its_memory_until_it_has_settled() -> None:
    ready = Going("a", CLAW, 300 * MB, ready=True)
    assert decided(9000, [asks("b"), asks("c")], [ready], at_once=2).start == ["b", "c"]
    assert set_aside([ready]) == 700 * MB


def test_no_more_start_at_once_than_the_cpu_bears() -> None:
    verdict = decided(9000, [asks("b"), asks("c")], [Going("a", CLAW)], at_once=2)
    assert verdict.start == ["b"]
    assert verdict.reasons == {"c": "2 starts are under way, as many as the CPU bears"}
    assert verdict.short == 0


def test_what_needs_little_cpu_does_not_wait_for_it() -> None:
    assert decided(9000, [asks("b", SMALL)], [Going("a", CLAW)], at_once=1).start == ["b"]


def test_the_more_important_one_comes_first() -> None:
    assert decided(1700, [asks("low", priority=10), asks("high", priority=90)]).start == ["high"]


def test_a_small_one_passes_a_large_one_for_a_while_and_then_no_more() -> None:
    waiting = [asks("large", priority=90), asks("small", SMALL, priority=10)]
    assert decided(700, waiting, now=5).start == ["small"]
    verdict = decided(700, waiting, now=31)
    assert verdict.start == []
    assert verdict.reasons["small"] == "it is behind large, which waits for memory"


def test_whoever_waits_becomes_more_important() -> None:
    assert [each.name for each in line([asks("new", priority=90, since=600), asks("old", priority=0)], 600)] == [
        "old",
        "new",
    ]


def test_what_is_larger_than_the_machine_is_tried_alone() -> None:
    huge = asks("huge", Footprint(99_000 * MB, MB, 1.0))
    assert decided(15_000, [huge]).start == ["huge"]
    assert decided(15_000, [huge], [Going("a", SMALL)]).start == []


footprints = st.builds(Footprint, peak=st.integers(1, 4000 * MB), settled=st.just(MB), cpu_s=st.just(1.0))
rooms = st.builds(lambda free, more: Room(free + more, free), st.integers(0, 1 << 34), st.integers(0, 1 << 34))
waiters = st.lists(
    st.builds(Waiting, st.text("abcdefgh", min_size=1), footprints, st.integers(0, 100), st.floats(0, 1000)),
    max_size=12, unique_by=lambda each: each.name,
)  # fmt: skip
starting = st.lists(st.builds(Going, st.text("xyz", min_size=1), footprints, st.integers(0, 1 << 33)), max_size=4)


@given(rooms, starting, waiters, st.integers(0, 1 << 31), st.integers(1, 6))
def test_it_never_gives_out_what_is_not_there(
    room: Room, going: list[Going], waiting: list[Waiting], reserve: int, at_once: int
) -> None:
    verdict = admit(room, going, waiting, reserve=reserve, at_once=at_once, now=1000.0)
    known = {each.name: each.footprint.peak for each in waiting}
    needed = sum(known[name] for name in verdict.start)
    assert len(going) + len(verdict.start) <= max(at_once, len(going))  # all of them are heavy
    assert needed <= max(0, room.free - reserve - set_aside(going)) or (
        len(verdict.start) == 1 and not going and needed > room.capacity - reserve
    )
    assert {*verdict.start} | verdict.reasons.keys() == known.keys()
    assert {*verdict.start}.isdisjoint(verdict.reasons)


@given(waiters.filter(bool), st.integers(1, 3))
def test_all_get_their_turn(waiting: list[Waiting], at_once: int) -> None:
    """A machine that fits the largest of them, whose starts end after ten seconds and are parked then."""
    room, now, left, order = Room(5000 * MB, 5000 * MB), 1000.0, list(waiting), []
    while left:
        started = admit(room, [], left, reserve=100 * MB, at_once=at_once, now=now).start
        assert started, "somebody always fits into an empty machine"
        order += started
        left = [each for each in left if each.name not in started]
        now += 10
    assert sorted(order) == sorted(each.name for each in waiting)
