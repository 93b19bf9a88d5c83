from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.lib.durations import human, size, to_bytes, to_ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [("90s", 90_000), ("1h30m", 5_400_000), ("250ms", 250), ("1.5h", 5_400_000), ("2w", 1_209_600_000), (3, 3000)],
)
def test_durations_are_read(text: str | int, ms: int) -> None:
    assert to_ms(text) == ms


def test_a_timedelta_is_a_duration() -> None:
    assert to_ms(timedelta(minutes=2)) == 120_000


@pytest.mark.parametrize("text", ["", "5", "ten minutes", "5m later", "-5s", -1, None, True])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration"):
        to_ms(text)  # type: ignore[arg-type]


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_whole_numbers_are_exact(count: int, unit: str) -> None:
    size = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[unit]
    assert to_ms(f"{count}{unit}") == count * size


@pytest.mark.parametrize(("text", "size"), [("300M", 300 << 20), ("2G", 2 << 30), ("1KiB", 1024), ("7", 7), (9, 9)])
def test_sizes_are_powers_of_1024(text: str | int, size: int) -> None:
    assert to_bytes(text) == size


def test_a_bad_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        to_bytes("lots")


@pytest.mark.parametrize(
    ("ms", "text"), [(12, "12ms"), (3400, "3.4s"), (302_000, "5m 02s"), (7_800_000, "2h 10m"), (273_600_000, "3d 4h")]
)
def test_durations_are_shown_for_people(ms: int, text: str) -> None:
    assert human(ms) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0K"), (3500, "3.4K"), (120 << 20, "120M"), (1 << 20, "1.0M"),
     ((1 << 20) - 1, "1.0M"), (5 << 50, "5120T")],
)  # fmt: skip
def test_sizes_for_a_person(count: int, text: str) -> None:
    assert size(count) == text
