"""Parts of a file come back as they lie there, however they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from relit.lib import ranges
from relit.lib.ranges import read_ranges

DATA = bytes(range(256)) * 400


@given(some.lists(some.tuples(some.integers(0, 110_000), some.integers(0, 30_000)), max_size=12))
def test_any_ranges_are_what_single_reads_give(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "ranges"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        assert read_ranges(file.fileno(), parts) == [DATA[at : at + length] for at, length in parts]
        parts.sort()
        assert read_ranges(file.fileno(), parts) == [DATA[at : at + length] for at, length in parts]


def test_a_bad_sector_is_an_error_and_not_a_short_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pread(fd: int, length: int, offset: int) -> bytes:
        if offset >= 5_000:
            raise OSError(5, "Input/output error")
        return DATA[offset : min(offset + length, 5_000)]

    monkeypatch.setattr(ranges.os, "pread", pread)
    (tmp_path / "file").write_bytes(DATA)
    with (tmp_path / "file").open("rb") as file, pytest.raises(OSError, match="Input/output"):
        read_ranges(file.fileno(), [(0, 4_000), (4_000, 4_000)])
