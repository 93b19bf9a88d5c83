"""A volume's history out of its manifest records."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.manifest import Delta, Entry, Segment, Snapshot
from relit.volumes.intervals import Intervals, chain, kept


class Link(NamedTuple):
    base: int
    number: int
    which: str = ""


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ([], []),
        ([(0, 1), (1, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]),
        ([(2, 3), (0, 1), (1, 2)], [(0, 1), (1, 2), (2, 3)]),
        ([(1, 2), (2, 3)], []),
        ([(0, 1), (2, 3)], [(0, 1)]),
        ([(0, 1), (1, 2), (0, 5), (5, 6)], [(0, 5), (5, 6)]),
        ([(0, 3), (3, 6), (0, 1), (1, 2), (2, 3)], [(0, 1), (1, 2), (2, 3), (3, 6)]),
        ([(0, 3), (3, 6), (5, 6)], [(0, 3), (3, 6)]),
    ],
)
def test_a_chain_ends_at_the_newest_and_passes_through_as_many_as_it_can(
    links: list[tuple[int, int]], found: list[tuple[int, int]]
) -> None:
    assert [(each.base, each.number) for each in chain([Link(*each) for each in links])] == found


def test_of_two_records_of_one_step_the_last_one_counts() -> None:
    assert [each.which for each in chain([Link(0, 1, "old"), Link(0, 1, "new")])] == ["new"]


STEPS = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4)), max_size=20)


@given(steps=STEPS)
def test_any_chain_hangs_together_and_reaches_the_newest_that_can_be(steps: list[tuple[int, int]]) -> None:
    links = [Link(base, base + more) for base, more in steps]
    found = chain(links)
    at = 0
    for each in found:
        assert each.base == at
        at = each.number
    reachable, grown = {0}, True
    while grown:
        more = {each.number for each in links if each.base in reachable} - reachable
        reachable, grown = reachable | more, bool(more)
    assert at == max(reachable)


def snapshot(number: int) -> Snapshot:
    return Snapshot(id=str(number), volume="v", number=number, at_ms=number, reason="interval")


def file(path: bytes, size: int = 0) -> Entry:
    return Entry(path, "file", 0o600, 0, 0, 1, size)


def test_a_full_record_ends_all_that_was_before() -> None:
    intervals = Intervals()
    intervals.apply(snapshot(1), Delta(full=True, entries=[file(b"a")], segments=[Segment(b"a", 0, b"x")]), None)
    intervals.apply(snapshot(4), Delta(full=True, entries=[file(b"b")]), None)
    assert sorted((since, until, each.path) for since, until, each in intervals.entries()) == [
        (1, 4, b"a"),
        (4, None, b"b"),
    ]
    assert [(since, until) for since, until, _ in intervals.segments()] == [(1, 4)]


def test_segments_end_where_they_are_cut_or_replaced() -> None:
    intervals = Intervals()
    some = [Segment(b"a", no, b"%d" % no) for no in range(3)]
    intervals.apply(snapshot(1), Delta(full=True, entries=[file(b"a")], segments=some), None)
    intervals.apply(snapshot(2), Delta(entries=[file(b"a", 2)], segments=[Segment(b"a", 1, b"new")]), None)
    intervals.apply(snapshot(3), Delta(cut=[(b"a", 1)]), None)
    intervals.apply(snapshot(4), Delta(gone=[b"a"], cut=[(b"a", 0)]), None)
    assert sorted((each.no, since, until, each.ids) for since, until, each in intervals.segments()) == [
        (0, 1, 4, b"0"),
        (1, 1, 2, b"1"),
        (1, 2, 3, b"new"),
        (2, 1, 3, b"2"),
    ]


def test_only_intervals_in_which_a_snapshot_lies_are_kept() -> None:
    spans = [(1, 2, file(b"a")), (2, 5, file(b"b")), (3, 4, file(b"c")), (5, None, file(b"d")), (2, 9, file(b"e"))]
    found = kept(spans, [2, 6])
    assert [(since, until, each.path) for since, until, each in found] == [
        (2, 5, b"b"),
        (5, None, b"d"),
        (2, None, b"e"),
    ]
    assert kept(spans, []) == []
