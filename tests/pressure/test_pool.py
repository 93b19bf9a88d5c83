"""How many workers a pool has: more while work waits, fewer when it has been calm, never too few or too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relit.pressure.pool import GROW_S, SHRINK_S, Pool, Scale, Work, scaled

POOL = Pool(least=1, most=4, places=2)
CALM = Work(0, 0)


def wanted(*looks: tuple[float, Work | None, int], pool: Pool = POOL, first: int = 1) -> int:
    now = Scale(wanted=first)
    for at, work, up in looks:
        now = scaled(now, pool, work, up, at)
    return now.wanted


def test_work_that_waits_brings_one_more_after_a_moment() -> None:
    waits = Work(1, 2)
    assert wanted((0.0, waits, 1)) == 1
    assert wanted((0.0, waits, 1), (GROW_S, waits, 1)) == 2
    assert wanted((0.0, waits, 1), (GROW_S / 2, CALM, 1), (GROW_S, waits, 1)) == 1, "it was taken in between"


def test_as_many_come_as_the_work_needs() -> None:
    assert wanted((0.0, Work(4, 2), 1), (GROW_S, Work(4, 2), 1)) == 3
    assert wanted((0.0, Work(400, 2), 1), (GROW_S, Work(400, 2), 1)) == 4


def test_the_next_one_comes_only_when_all_that_are_wanted_are_there() -> None:
    waits = Work(1, 4)
    looks = [(0.0, waits, 1), (GROW_S, waits, 1), (3 * GROW_S, waits, 1)]
    assert wanted(*looks) == 3
    assert wanted(*looks, (5 * GROW_S, waits, 2)) == 3
    assert wanted(*looks, (5 * GROW_S, waits, 3)) == 4


def test_one_goes_after_a_calm_minute_and_the_next_after_another() -> None:
    assert wanted((0.0, CALM, 3), (SHRINK_S - 1, CALM, 3), first=3) == 3
    assert wanted((0.0, CALM, 3), (SHRINK_S, CALM, 3), first=3) == 2
    assert wanted((0.0, CALM, 3), (SHRINK_S, CALM, 3), (SHRINK_S + 1, CALM, 2), first=3) == 2
    assert wanted((0.0, CALM, 3), (SHRINK_S, CALM, 3), (2 * SHRINK_S, CALM, 2), first=3) == 1


def test_nobody_goes_whose_places_are_needed() -> None:
    busy = Work(0, 4)
    assert wanted((0.0, busy, 3), (SHRINK_S, busy, 3), first=3) == 3


def test_a_pool_of_none_begins_at_once() -> None:
    none = Pool(least=0, most=2, places=1)
    assert wanted((0.0, CALM, 0), pool=none, first=0) == 0
    assert wanted((0.0, Work(1, 0), 0), pool=none, first=0) == 1


def test_while_nobody_knows_nothing_changes() -> None:
    waits = Work(1, 2)
    assert wanted((0.0, waits, 1), (GROW_S, None, 1), (2 * GROW_S, waits, 1)) == 1
    assert wanted((0.0, CALM, 2), (SHRINK_S / 2, None, 2), (SHRINK_S, CALM, 2), first=2) == 2


@given(
    st.integers(0, 3), st.integers(1, 6), st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 30), st.none() | st.builds(Work, st.integers(0, 50), st.integers(0, 50)))),
)  # fmt: skip
def test_there_are_never_too_few_or_too_many_and_calm_brings_the_least(
    least: int, more: int, places: int, looks: list[tuple[float, Work | None]]
) -> None:
    pool = Pool(least=least, most=least + more, places=places)
    now, at = Scale(wanted=least), 0.0
    for passed, work in looks:
        at += passed
        before, now = now, scaled(now, pool, work, now.wanted, at)
        assert pool.least <= now.wanted <= pool.most
        if work is not None and work.ready:
            assert now.wanted >= before.wanted
        if work is None:
            assert now.wanted == before.wanted
    for _ in range(pool.most + 2):
        at += SHRINK_S + 1
        now = scaled(now, pool, CALM, now.wanted, at)
    assert now.wanted == pool.least
