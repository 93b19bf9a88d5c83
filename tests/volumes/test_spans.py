"""Two accounts of a volume agree exactly when every snapshot looks the same in both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relit.volumes.spans import Spans, add, differing

NUMBERS = [2, 3, 5, 8]
Row = tuple[int, int | None, bytes]


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Of one path: intervals that do not overlap, one after the other, with or without gaps."""
    edges = sorted(draw(st.sets(st.integers(1, 10), min_size=1, max_size=5)))
    ends: list[int | None] = [*edges[1:], None]
    rows = [(since, until, draw(st.sampled_from([b"x", b"y"]))) for since, until in zip(edges, ends, strict=True)]
    return [row for row in rows if draw(st.booleans())]


def seen(rows: list[Row], number: int) -> bytes | None:
    return next((w for since, until, w in rows if since <= number and (until is None or number < until)), None)


def spans(rows: list[Row]) -> Spans:
    made: Spans = {}
    for since, until, what in rows:
        add(made, (b"path", -1), since, until, what, NUMBERS)
    return made


@given(histories(), histories())
def test_what_differs_is_what_looks_different(a: list[Row], b: list[Row]) -> None:
    unlike = {number for number in NUMBERS if seen(a, number) != seen(b, number)}
    assert differing(spans(a), spans(b), NUMBERS) == ({b"path": unlike} if unlike else {})


@given(histories())
def test_rows_that_overlap_agree_with_nothing(rows: list[Row]) -> None:
    if rows and seen(rows, 5) is not None:
        twice = spans([*rows, (4, 6, seen(rows, 5) or b"")])
        assert 5 in differing(spans(rows), twice, NUMBERS).get(b"path", set())
