"""Retention keeps what it promises, and pruning often ends where pruning seldom does."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from relit.volumes.retention import Dated, keep, parse_keep

HOUR, DAY = 3_600_000, 86_400_000
NOW = 20_000 * DAY + 12 * HOUR + 60_000
TIERS = parse_keep("1h all, 2d hourly, 30d daily, 26w weekly")


def _at(*ages: int) -> list[Dated]:
    """Snapshots of these ages in ms, the oldest first."""
    return [Dated(number, NOW - age) for number, age in enumerate(sorted(ages, reverse=True), 1)]


@strategies.composite
def histories(draw: strategies.DrawFn) -> list[Dated]:
    ages = draw(strategies.lists(strategies.integers(0, 300 * DAY), max_size=60))
    ages += draw(strategies.lists(strategies.integers(0, 3 * HOUR), max_size=20))
    marks = strategies.tuples(strategies.booleans(), strategies.sampled_from([(), (), (), ("known-good",), ("x",)]))
    return [Dated(each.number, each.at_ms, *draw(marks)) for each in _at(*ages)]


def test_everything_of_the_last_hour_then_one_an_hour_then_one_a_day() -> None:
    ages = [1000, 2000, HOUR - 1, *(n * HOUR // 4 for n in range(5, 9)), 3 * DAY, 3 * DAY + HOUR, 40 * DAY]
    kept = keep(_at(*ages), TIERS, NOW)
    by_age = {NOW - each.at_ms: kept.get(each.number) for each in _at(*ages)}
    assert by_age[1000] == "newest"
    assert by_age[2000] == by_age[HOUR - 1] == "1h all"
    assert [by_age[n * HOUR // 4] for n in range(5, 9)] == ["2d hourly", None, None, None]
    assert by_age[3 * DAY] == "30d daily"
    assert by_age[3 * DAY + HOUR] is None
    assert by_age[40 * DAY] == "26w weekly"


def test_what_is_older_than_all_tiers_goes() -> None:
    assert keep(_at(0, 200 * DAY), TIERS, NOW) == {2: "newest"}


def test_for_ever_is_for_ever() -> None:
    assert keep(_at(0, 9000 * DAY), parse_keep("1h all, forever weekly"), NOW) == {2: "newest", 1: "forever weekly"}


@given(histories())
def test_the_newest_the_pinned_and_the_tagged_stay(history: list[Dated]) -> None:
    kept = keep(history, TIERS, NOW)
    must = {each.number for each in history if each.pinned or each.tags} | {each.number for each in history[-1:]}
    assert must <= kept.keys() <= {each.number for each in history}


@given(histories())
def test_no_hour_day_or_week_of_its_tier_is_left_without(history: list[Dated]) -> None:
    kept = keep(history, TIERS, NOW)
    left = [each.at_ms for each in history if each.number in kept]
    for each in history:
        age = NOW - each.at_ms
        if age < HOUR:
            assert each.number in kept
        for span, step in ((2 * DAY, HOUR), (30 * DAY, DAY)):
            if age < span:
                assert any(at // step == each.at_ms // step for at in left)


@given(histories(), strategies.integers(0, 60 * DAY))
def test_pruning_twice_keeps_what_pruning_late_keeps(history: list[Dated], later: int) -> None:
    early = keep(history, TIERS, NOW)
    survivors = [each for each in history if each.number in early]
    assert keep(survivors, TIERS, NOW + later) == keep(history, TIERS, NOW + later)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not SPAN"),
        ("1h", "is not SPAN"),
        ("1h all,", "is not SPAN"),
        ("2 fortnights daily", "is not a duration"),
        ("0s all", "keeps nothing"),
        ("2d hourly, 1h all", "from short to long"),
        ("forever all, 2d hourly", "from short to long"),
        ("1h hourly, 2d all", "not coarser"),
        ("1h all, 2d all", "not coarser"),
    ],
)
def test_tiers_that_make_no_sense_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_keep(text)
