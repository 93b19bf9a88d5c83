from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relit.pressure.footprint import MB, Footprint, learnt

PRIOR = Footprint(256 * MB, 128 * MB, 1.0)
sizes = st.integers(1, 1 << 40)
samples = st.builds(Footprint, peak=sizes, settled=sizes, cpu_s=st.floats(0, 1000))


def test_what_was_measured_takes_the_place_of_what_was_said() -> None:
    assert learnt(PRIOR, Footprint(90 * MB, 60 * MB, 0.5)) == Footprint(90 * MB, 60 * MB, 0.5, seen=1)


def test_it_grows_at_once_and_shrinks_slowly() -> None:
    before = Footprint(100 * MB, 100 * MB, 4.0, seen=3)
    assert learnt(before, Footprint(200 * MB, 50 * MB, 8.0)) == Footprint(200 * MB, round(87.5 * MB), 8.0, seen=4)


@given(st.lists(samples, min_size=1, max_size=20))
def test_it_stays_within_what_was_seen_and_covers_the_last(seen: list[Footprint]) -> None:
    known = PRIOR
    for each in seen:
        known = learnt(known, each)
        assert known.peak >= each.peak
        assert known.settled >= each.settled
    assert known.seen == len(seen)
    assert known.peak <= max(each.peak for each in seen)


@given(samples, st.lists(samples, min_size=1, max_size=3))
def test_a_start_that_needed_less_again_and_again_is_believed(once: Footprint, later: list[Footprint]) -> None:
    known = learnt(PRIOR, once)
    for _ in range(200):
        known = learnt(known, later[0])
    assert known.peak <= later[0].peak + 4
