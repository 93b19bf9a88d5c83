"""The search for the newest home that works, over every possible row of homes."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from relit.node.bisect import following, newest


def searched(works: list[bool]) -> dict[int, bool]:
    """What was tried, and how it went."""
    seen: dict[int, bool] = {}
    while (index := following(len(works), seen)) is not None:
        assert index not in seen, "nothing is tried twice"
        seen[index] = works[index]
    return seen


def test_nothing_is_tried_where_there_is_nothing() -> None:
    assert following(0, {}) is None
    assert newest({}) is None


@given(broken=st.integers(0, 40), good=st.integers(0, 40))
@example(broken=0, good=1)
@example(broken=20, good=1)
def test_what_broke_once_and_stayed_broken_is_found_exactly_and_soon(broken: int, good: int) -> None:
    seen = searched([False] * broken + [True] * good)
    assert newest(seen) == (broken if good else None)
    assert len(seen) <= 2 * (broken + 1).bit_length() + 1


@given(works=st.lists(st.booleans(), max_size=40))
def test_whatever_is_found_works_and_the_one_before_it_was_tried_and_does_not(works: list[bool]) -> None:
    seen = searched(works)
    found = newest(seen)
    if found is None:
        assert not works or seen[len(works) - 1] is False
    else:
        assert works[found]
        assert found == 0 or seen[found - 1] is False
