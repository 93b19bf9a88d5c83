"""When a disk's room is low: at once, and over only with clearly more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.pressure.space import Space, low_mark, spaced

GB = 1 << 30


@pytest.mark.parametrize(
    ("total", "mark"), [(GB, GB // 4), (4 * GB, GB // 2), (100 * GB, 5 * GB), (9000 * GB, 10 * GB)]
)
def test_what_is_low_depends_on_the_disk(total: int, mark: int) -> None:
    assert low_mark(total) == mark


def test_it_is_tighter_at_once_and_easier_with_clearly_more() -> None:
    now = spaced(Space(), 6 * GB, 100 * GB)
    assert now.room == "ample"
    now = spaced(now, 4 * GB, 100 * GB)
    assert now.room == "low"
    now = spaced(now, GB, 100 * GB)
    assert now.room == "least"
    now = spaced(now, 3 * GB // 2, 100 * GB)
    assert now.room == "least", "a quarter more than the mark is not there yet"
    now = spaced(now, 2 * GB, 100 * GB)
    assert now.room == "low"
    now = spaced(now, 6 * GB, 100 * GB)
    assert now.room == "low"
    assert spaced(now, 7 * GB, 100 * GB).room == "ample"


@given(st.integers(1, 1 << 50), st.floats(0, 1), st.sampled_from(["ample", "low", "least"]))
def test_without_a_change_it_stays_as_it_is(total: int, share: float, room: str) -> None:
    first = spaced(Space(room, 0, total), int(total * share), total)  # type: ignore[arg-type]
    assert spaced(first, first.free, total) == first
