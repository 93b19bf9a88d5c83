from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from relit.lib.backoff import delay
from relit.lib.ids import IdSource, derived_id


def test_ids_of_one_source_grow_strictly_from_any_thread() -> None:
    source = IdSource()
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: [source() for _ in range(500)], range(4)))
    assert all(part == sorted(part) for part in parts)
    assert len({id_ for part in parts for id_ in part}) == 2000


def test_a_clock_that_goes_back_does_not_repeat_or_unsort_ids() -> None:
    class Backwards:
        at = 1_790_000_000_000

        def now_ms(self) -> int:
            self.at -= 1000
            return self.at

        def boot_ms(self) -> int:
            return 0

        def monotonic(self) -> float:
            return 0.0

    source = IdSource(Backwards())
    ids = [source() for _ in range(50)]
    assert ids == sorted(set(ids))


def test_derived_ids_are_stable_and_keep_their_parts_apart() -> None:
    assert derived_id("run", "3") == derived_id("run", "3")
    assert derived_id("ab", "c") != derived_id("a", "bc")


@given(st.integers(1, 10**6), st.integers(0, 2**32))
def test_backoff_stays_between_its_bounds(attempt: int, seed: int) -> None:
    wait = delay(attempt, first=1, factor=2, most=60, jitter=0.5, chance=Random(seed))
    assert 0.5 <= wait <= 60
