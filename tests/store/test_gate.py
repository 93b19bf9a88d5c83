from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relit.store.gate import UNLIMITED, Box, decide, next_token_at, refill

boxes = st.builds(
    Box,
    name=st.just("m"),
    concurrency=st.none() | st.integers(0, 10),
    key_concurrency=st.none() | st.integers(1, 3),
    depth=st.none() | st.integers(1, 100),
    rate=st.none() | st.floats(0.01, 100),
    burst=st.integers(1, 20),
    paused=st.booleans(),
    tokens=st.floats(0, 20),
    refilled_at=st.integers(0, 10**6),
    queued=st.integers(0, 50),
    active=st.integers(0, 20),
)


@given(boxes, st.integers(0, 2 * 10**6))
def test_never_gives_out_more_places_than_are_free(box: Box, now: int) -> None:
    places = decide(box, now).places
    assert 0 <= places <= UNLIMITED
    if box.concurrency is not None:
        assert places <= max(0, box.concurrency - box.active)


@given(boxes, st.integers(0, 2 * 10**6))
def test_paused_mailbox_gives_out_nothing(box: Box, now: int) -> None:
    assert not box.paused or decide(box, now).places == 0


@given(boxes, st.integers(0, 2 * 10**6))
def test_bucket_never_holds_more_than_its_burst_nor_loses_tokens(box: Box, now: int) -> None:
    tokens = refill(box, now)
    assert tokens <= box.burst
    assert box.rate is None or tokens >= min(box.tokens, box.burst)


@given(boxes, st.integers(0, 10**6))
def test_at_the_announced_moment_there_is_a_token(box: Box, now: int) -> None:
    tokens = refill(box, now)
    at = next_token_at(box, tokens, now)
    if at is not None and box.rate is not None:
        assert tokens + box.rate * (at - now + 1) / 1000 >= 1
    else:
        assert box.rate is None or tokens >= 1


def test_a_clock_that_went_back_adds_no_tokens() -> None:
    box = Box("m", 1, None, None, 10.0, 5, False, 0.0, 1_000_000, 3, 0)
    assert decide(box, 0).places == 0
