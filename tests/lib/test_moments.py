"""A moment is understood as a person means it, or refused with the right spelling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies

from relit.lib.moments import At, Named, Number, check_tag, fixed, parse_moment, read_when

BERLIN = ZoneInfo("Europe/Berlin")
NOON = round(datetime(2026, 6, 10, 12, 0, tzinfo=BERLIN).timestamp() * 1000)
nows = strategies.integers(1_700_000_000_000, 2_000_000_000_000)


def _ms(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=BERLIN).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", NOON),
        ("@1769846400000", 1_769_846_400_000),
        ("11:02", _ms(2026, 6, 10, 11, 2)),
        ("9:30", _ms(2026, 6, 10, 9, 30)),
        ("14:02", _ms(2026, 6, 9, 14, 2)),
        ("12:00:00", NOON),
        ("today 9:30", _ms(2026, 6, 10, 9, 30)),
        ("yesterday 9:30", _ms(2026, 6, 9, 9, 30)),
        ("Yesterday at 9:30:15.5", _ms(2026, 6, 9, 9, 30, 15) + 500),
        ("yesterday", _ms(2026, 6, 9)),
        ("10 minutes ago", NOON - 600_000),
        ("an hour ago", NOON - 3_600_000),
        ("2h ago", NOON - 7_200_000),
        ("1d 3h ago", NOON - 97_200_000),
        ("1 day and 3 hours ago", NOON - 97_200_000),
        ("2026-06-01", _ms(2026, 6, 1)),
        ("2026-06-01 09:00", _ms(2026, 6, 1, 9)),
        ("2026-06-01T09:00:00Z", _ms(2026, 6, 1, 11)),
    ],
)
def test_people_write_moments_in_many_ways(text: str, wanted: int) -> None:
    assert parse_moment(text, NOON, BERLIN) == wanted


@pytest.mark.parametrize(
    "text", ["", "noon-ish", "25:00", "10 fortnights ago", "ago", "today 14:02", "2031-01-01", "#"]
)
def test_what_is_no_moment_that_has_come_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|come"):
        parse_moment(text, NOON, BERLIN)


@given(nows, strategies.times(), strategies.sampled_from([UTC, BERLIN, None]))
def test_a_time_of_day_is_the_last_one_that_has_come(now: int, clock: object, zone: object) -> None:
    text = f"{clock:%H:%M:%S}"
    found = parse_moment(text, now, zone)  # type: ignore[arg-type]
    assert 0 <= now - found <= timedelta(hours=26) / timedelta(milliseconds=1)


@given(nows, strategies.integers(0, 10_000), strategies.sampled_from(["second", "minute", "hour", "day"]))
def test_spans_are_counted_back(now: int, count: int, unit: str) -> None:
    wanted = now - timedelta(**{f"{unit}s": count}) // timedelta(milliseconds=1)
    assert parse_moment(f"{count} {unit}s ago", now) == wanted


@given(nows, nows)
def test_iso_comes_back(now: int, at: int) -> None:
    text = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")
    assert parse_moment(text, max(now, at)) == at


def test_the_hour_that_comes_twice_is_the_second_when_that_has_come() -> None:
    second = round(datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1).timestamp() * 1000)
    assert parse_moment("2:30", second, BERLIN) == second
    assert parse_moment("2:30", second - 1, BERLIN) == second - 3_600_000


def test_numbers_ids_tags_and_moments_are_told_apart() -> None:
    id = "01hzx3k9v7q2m8n4p6r1s5t0w3"
    assert read_when("12", NOON) == read_when("#12", NOON) == Number(12)
    assert read_when(id, NOON) == Named(id)
    assert read_when("known-good", NOON) == Named("known-good")
    assert read_when("now", NOON) == At(NOON)
    with pytest.raises(ValueError, match="not a time"):
        read_when("half past nine", NOON)


def test_a_fixed_moment_means_the_same_later() -> None:
    text = fixed("10 minutes ago", NOON, BERLIN)
    assert read_when(text, NOON + 5_000_000, UTC) == At(NOON - 600_000)
    assert fixed("known-good", NOON) == "known-good"
    assert fixed("#3", NOON) == "#3"


@pytest.mark.parametrize("text", ["now", "yesterday", "12", "a b", "", "-x", "01hzx3k9v7q2m8n4p6r1s5t0w3", "x" * 64])
def test_a_tag_reads_as_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be a tag"):
        check_tag(text, NOON)


def test_a_tag_is_a_word() -> None:
    assert check_tag("before-upgrade.2") == "before-upgrade.2"
