"""The same content is cut at the same places, however it is read."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packs_for_tests import noise, text

from relit.volumes.chunking import BLOCK, SMALL, Ends, cuts, is_database
from relit.volumes.scan import windows

SIZES = [0, 1, BLOCK, SMALL, SMALL + 1, 1 << 20, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, (4 << 20) + 40_000, 9_999_999]


def whole(data: bytes, *, blocks: bool) -> list[bytes]:
    pieces, at = [], 0
    for length in cuts(data, blocks=blocks):
        pieces.append(data[at : at + length])
        at += length
    return pieces


def windowed(
    data: bytes, window: int, *, blocks: bool = False, gaps: list[tuple[int, int]] | None = None
) -> list[bytes]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        read = windows(
            file.fileno(), len(data), gaps or [], memoryview(bytearray(window)), lambda view: cuts(view, blocks=blocks)
        )
        return [bytes(each) for each in read]


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_reading_in_windows_cuts_as_the_whole_does(size: int, blocks: bool) -> None:
    data = noise(size)
    pieces = whole(data, blocks=blocks)
    assert b"".join(pieces) == data
    for window in (1 << 20, 3 << 19, 4 << 20):
        assert windowed(data, window, blocks=blocks) == pieces


@given(seed=st.integers(0, 2**32), size=st.integers(1 << 20, 3 << 20), window=st.integers(40, 120))
@settings(max_examples=60, deadline=None)
def test_window_boundaries_leave_no_trace(seed: int, size: int, window: int) -> None:
    data = noise(size, seed)
    assert windowed(data, window * BLOCK) == whole(data, blocks=False)


def test_a_short_end_is_cut_alike_however_the_windows_lie() -> None:
    data, at = noise(16 << 20), 0
    for length in cuts(data, blocks=False):
        at += length
        if length < 60 << 10:
            break
    assert length < 60 << 10
    content = data[: at + 1000]
    pieces = whole(content, blocks=False)
    assert len(pieces[-1]) == length + 1000
    assert all(windowed(content, window * BLOCK) == pieces for window in range(40, 120))


@given(seed=st.integers(0, 2**32), size=st.integers(0, 3 << 20))
@settings(max_examples=60, deadline=None)
def test_chunks_keep_their_limits(seed: int, size: int) -> None:
    lengths = cuts(noise(size, seed), blocks=False)
    assert sum(lengths) == size
    assert all(32 << 10 <= length <= 512 << 10 for length in lengths[:-1])
    assert all(length <= 512 << 10 for length in lengths)
    assert lengths == [size] or size > SMALL or not size


def test_content_without_features_is_cut_too() -> None:
    for data in (bytes(3 << 20), text(3 << 20)):
        assert max(cuts(data, blocks=False)) <= 512 << 10
        assert windowed(data, 1 << 20) == whole(data, blocks=False)


def test_an_insertion_changes_only_the_chunks_around_it() -> None:
    data = noise(8 << 20)
    at = Random(5).randrange(len(data))
    before, after = whole(data, blocks=False), whole(data[:at] + b"inserted" + data[at:], blocks=False)
    assert len(set(before) - set(after)) <= 3
    assert len(set(after) - set(before)) <= 3


def test_appending_changes_only_the_last_chunks() -> None:
    data = noise(8 << 20)
    before, after = whole(data, blocks=False), whole(data + noise(100, 1), blocks=False)
    assert before[:-2] == after[: len(before) - 2]


def test_a_changed_page_of_a_database_costs_one_block() -> None:
    data = bytearray(b"SQLite format 3\0" + noise(1 << 20))
    before = whole(bytes(data), blocks=True)
    data[300_000:304_096] = bytes(4096)
    after = whole(bytes(data), blocks=True)
    assert {len(each) for each in before[:-1]} == {BLOCK}
    assert [at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [300_000 // BLOCK]


def test_blocks_lie_at_multiples_of_16_kib_whatever_the_window() -> None:
    data = noise((1 << 20) + 5)
    for window in (BLOCK, 5 * BLOCK, 1 << 20):
        pieces = windowed(data, window, blocks=True)
        assert [len(each) for each in pieces] == [BLOCK] * 64 + [5]
        assert b"".join(pieces) == data


def test_holes_are_left_out_of_the_content() -> None:
    data = noise(3 << 20)
    gaps = [(0, 4096), (1 << 20, 1 << 20)]
    content = data[4096 : 1 << 20] + data[2 << 20 :]
    assert windowed(data, 1 << 20, gaps=gaps) == whole(content, blocks=False)


def test_databases_are_known_by_their_head_and_logs_by_their_names() -> None:
    assert is_database(b"state.bin", b"SQLite format 3\0....")
    assert is_database(b"a.db-wal", b"")
    assert is_database(b"a.db-journal", b"\0")
    assert not is_database(b"a.db", b"SQLite format 2\0")
    assert not is_database(b"wal", b"")


def test_many_threads_cut_alike() -> None:
    contents = [noise(2 << 20, seed) for seed in range(8)]
    alone = [cuts(data, blocks=False) for data in contents]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(lambda data: cuts(data, blocks=False), contents)) == alone


def grown(ends: Ends, before: int, data: bytes) -> list[bytes]:
    """What a growing file of one chunk is cut into."""
    return [bytes(each) for each in ends.parts(b"log", memoryview(data), 0, ends.of(b"log", before, len(data)))]


@given(steps=st.lists(st.integers(1, 2000), min_size=1, max_size=40))
def test_what_a_growing_file_held_before_is_cut_as_before_until_it_is_in_many_pieces(steps: list[int]) -> None:
    ends, data, pieces = Ends(), b"x" * 9000, [b"x" * 9000]
    for step in steps:
        before, data = len(data), data + b"y" * step
        now = grown(ends, before, data)
        assert b"".join(now) == data
        assert now == [*pieces, b"y" * step] or now == [data]
        assert now != [data] or len(pieces) >= 16
        pieces = now


def test_a_file_that_did_not_grow_is_cut_as_it_is() -> None:
    ends = Ends()
    assert grown(ends, 9000, b"x" * 9001) == [b"x" * 9000, b"x"]
    assert grown(ends, 9001, b"x" * 9001) == [b"x" * 9001]
    assert grown(ends, 9001, b"x" * 9002) == [b"x" * 9001, b"x"], "where it ended before that is forgotten"
    assert grown(ends, 100, b"x" * 9002) == [b"x" * 9002], "a short one is stored anew"
