"""Due moments and verdicts of schedules."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relit.durable import schedule
from relit.durable.schedule import Decision, Spec, decide, next_after, offset, parse, run_id
from relit.errors import ConfigError
from relit.lib.durations import to_ms

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
# Noon before each change of clocks in 2026, UTC.
CHANGES = {
    "Europe/Berlin": ("2026-03-28T12:00", "2026-10-24T12:00"),
    "America/New_York": ("2026-03-07T12:00", "2026-10-31T12:00"),
    "Australia/Lord_Howe": ("2026-04-04T06:00", "2026-10-03T06:00"),
}


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def local(at: int | None, zone: str) -> str:
    assert at is not None
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")


def following(spec: Spec, after: str, count: int) -> list[str]:
    found, at = [], ms(after)
    for _ in range(count):
        moment = next_after(spec, "name", at)
        assert moment is not None
        found.append(local(moment, spec.zone))
        at = moment
    return found


# --- specs


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"every": "30m", "cron": "* * * * *"},
        {"every": "soon"},
        {"every": "500ms"},
        {"every": "1m", "jitter": "2m"},
        {"cron": "61 * * * *"},
        {"cron": "nonsense"},
        {"cron": "0 0 30 2 *"},
        {"cron": "0 9 * * *", "zone": "Europe/Berlinn"},
        {"cron": "0 9 * * *", "zone": "../etc"},
        {"every": "1m", "start": "2026-01-01T00:00"},
        {"every": "1m", "start": "tomorrow"},
        {"every": "1m", "missed": "some"},
        {"every": "1m", "max": 0},
        {"every": "1m", "window": "long"},
        {"every": "1m", "colour": "red"},
        {"every": 5},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="fix: "):
        parse(data)


def test_a_spec_survives_its_row() -> None:
    spec = parse({"cron": "0 9 * * MON-FRI", "zone": "Europe/Berlin", "missed": "all", "max": 3})
    assert parse(msgspec.json.encode(spec)) == spec


# --- intervals


def test_an_interval_keeps_its_beat_over_restarts() -> None:
    spec = parse({"every": "30m"})
    one = next_after(spec, "a", ms("2026-01-01T10:00"))
    two = next_after(spec, "a", ms("2026-07-09T03:17"))
    assert one is not None
    assert two is not None
    assert (two - one) % (30 * MINUTE) == 0


def test_heartbeats_of_a_fleet_spread_evenly() -> None:
    spec = parse({"every": "30m"})
    places = sorted(offset(spec, f"agent-{number}/heartbeat") for number in range(1000))
    tenths = [sum(1 for place in places if place // (3 * MINUTE) == tenth) for tenth in range(10)]
    assert min(tenths) > 60
    assert max(tenths) < 140


def test_no_jitter_puts_all_on_the_same_moment() -> None:
    spec = parse({"every": "1h", "jitter": "0s"})
    assert {next_after(spec, name, ms("2026-01-01T10:30")) for name in "abc"} == {ms("2026-01-01T11:00")}


def test_an_interval_with_a_start_counts_from_it() -> None:
    spec = parse({"every": "1d", "start": "2026-01-05T09:00:00+01:00"})
    assert next_after(spec, "a", ms("2026-01-01T00:00")) == ms("2026-01-05T08:00")
    assert next_after(spec, "a", ms("2026-01-05T08:00")) == ms("2026-01-06T08:00")


@settings(deadline=None)
@given(st.integers(1, 10 * DAY), st.integers(0, 10**13), st.text(max_size=5))
def test_an_interval_is_due_once_in_every_interval(every: int, at: int, name: str) -> None:
    spec = Spec(every=f"{every + 999}ms")
    due = next_after(spec, name, at)
    assert due is not None
    assert at < due <= at + every + 999
    assert next_after(spec, name, due - 1) == due
    assert next_after(spec, name, due) == due + every + 999


# --- cron and clocks


def test_cron_follows_the_zone() -> None:
    spec = parse({"cron": "0 9 * * MON-FRI", "zone": "Europe/Berlin"})
    assert following(spec, "2026-03-27T12:00", 2) == ["2026-03-30T09:00+02:00", "2026-03-31T09:00+02:00"]


def test_a_time_of_day_in_the_gap_happens_once_after_it() -> None:
    spec = parse({"cron": "30 2 * * *", "zone": "Europe/Berlin"})
    days = following(spec, "2026-03-28T00:00", 3)
    assert days == ["2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]


def test_a_time_of_day_that_comes_twice_happens_the_first_time() -> None:
    spec = parse({"cron": "30 2 * * *", "zone": "Europe/Berlin"})
    assert following(spec, "2026-10-24T22:00", 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]


def test_a_rhythm_follows_elapsed_time() -> None:
    spec = parse({"cron": "30 * * * *", "zone": "America/New_York"})
    autumn = following(spec, "2026-11-01T04:45", 3)
    assert autumn == ["2026-11-01T01:30-04:00", "2026-11-01T01:30-05:00", "2026-11-01T02:30-05:00"]
    spring = following(spec, "2026-03-08T06:00", 3)
    assert spring == ["2026-03-08T01:30-05:00", "2026-03-08T03:30-04:00", "2026-03-08T04:30-04:00"]


def test_half_an_hour_of_summer_time_is_handled() -> None:
    every_other_hour = parse({"cron": "0 */2 * * *", "zone": "Australia/Lord_Howe"})
    found = following(every_other_hour, "2026-04-04T13:30", 2)
    assert found == ["2026-04-05T02:00+10:30", "2026-04-05T04:00+10:30"]
    gap = parse({"cron": "15 2 * * *", "zone": "Australia/Lord_Howe"})
    assert following(gap, "2026-10-03T15:00", 1) == ["2026-10-04T02:30+11:00"]


def test_a_far_moment_in_the_repeated_hour_is_its_first_pass() -> None:
    spec = parse({"cron": "30 2 25 10 *", "zone": "Europe/Berlin"})
    assert following(spec, "2026-01-01T00:00", 1) == ["2026-10-25T02:30+02:00"]


def test_cron_jitter_delays_each_moment_by_the_same() -> None:
    spec = parse({"cron": "0 9 * * *", "jitter": "10m"})
    due = next_after(spec, "a", ms("2026-01-01T00:00"))
    assert due == ms("2026-01-01T09:00") + offset(spec, "a")
    assert next_after(spec, "a", due) == due + DAY
    assert offset(spec, "a") != offset(spec, "b")


@st.composite
def fields(draw: st.DrawFn) -> tuple[str, set[int], set[int], bool]:
    """A cron expression of minutes and hours, what it means, and whether it names times of day."""
    minutes = draw(st.sets(st.integers(0, 59), min_size=1, max_size=3))
    hours = draw(st.sets(st.integers(0, 23), min_size=1, max_size=4))
    step = draw(st.sampled_from([None, 1, 2, 3, 5]))
    minute_text, hour_text = ",".join(map(str, sorted(minutes))), ",".join(map(str, sorted(hours)))
    if step is None:
        return f"{minute_text} {hour_text} * * *", minutes, hours, True
    if draw(st.booleans()):
        return f"{minute_text} */{step} * * *", minutes, set(range(0, 24, step)), False
    return f"*/{step} {hour_text} * * *", set(range(0, 60, step)), hours, False


def meant(minutes: set[int], hours: set[int], zone: str, begin: datetime, end: datetime, fixed: bool) -> list[int]:
    """The due moments minute by minute, read off a clock."""
    found, highest = [], (begin - timedelta(days=1)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    at = begin - timedelta(days=1)
    while at < end:
        wall = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        shown = [wall]
        if fixed:  # what the clock jumped over counts now; what it showed before does not count again
            missing = int((wall - highest) / timedelta(minutes=1))
            shown = [wall - timedelta(minutes=back) for back in range(missing)]
        highest = max(highest, wall)
        if at > begin and any(each.minute in minutes and each.hour in hours for each in shown):
            found.append(calendar.timegm(at.timetuple()) * 1000)
        at += timedelta(minutes=1)
    return found


@settings(max_examples=60, deadline=None)
@given(fields(), st.sampled_from(ZONES), st.integers(0, 1))
def test_days_with_a_change_of_clocks_mean_what_a_clock_shows(
    field: tuple[str, set[int], set[int], bool], zone: str, which: int
) -> None:
    cron, minutes, hours, fixed = field
    begin = datetime.fromisoformat(CHANGES[zone][which]).replace(tzinfo=UTC)
    end = begin + timedelta(days=1)
    spec, first, last = Spec(cron=cron, zone=zone), round(begin.timestamp() * 1000), round(end.timestamp() * 1000)
    found = list(schedule.due_between(spec, "a", first, last - 1))
    assert found == meant(minutes, hours, zone, begin, end, fixed)


@settings(max_examples=100, deadline=None)
@given(fields(), st.sampled_from(ZONES), st.integers(ms("2026-01-01T00:00"), ms("2027-01-01T00:00")))
def test_next_is_later_and_nothing_lies_between(
    field: tuple[str, set[int], set[int], bool], zone: str, at: int
) -> None:
    spec = Spec(cron=field[0], zone=zone)
    due = next_after(spec, "a", at)
    assert due is not None
    assert due > at
    assert next_after(spec, "a", (at + due) // 2) == due
    assert next_after(spec, "a", due - 1) == due


# --- verdicts

HOURLY = parse({"every": "1h", "jitter": "0s"})
T = ms("2026-01-01T10:00")


def outcomes(decision: Decision) -> list[tuple[int, str]]:
    return [((firing.due_at - T) // HOUR, firing.outcome) for firing in decision.firings]


def with_policy(**options: Any) -> Spec:
    return parse({"every": "1h", "jitter": "0s"} | options)


def test_nothing_happens_before_the_moment() -> None:
    assert decide(HOURLY, "a", T, T - 1) == Decision(next_at=T)


def test_a_moment_on_time_fires_whatever_missed_says() -> None:
    for missed in ("skip", "latest", "all"):
        decision = decide(with_policy(missed=missed), "a", T, T + schedule.GRACE_MS)
        assert outcomes(decision) == [(0, "fired")]
        assert decision.firings[0].run == run_id("a", T)
        assert decision.next_at == T + HOUR


def test_missed_skip_only_records() -> None:
    decision = decide(with_policy(missed="skip"), "a", T, T + 2 * HOUR + 10 * MINUTE)
    assert outcomes(decision) == [(0, "missed"), (1, "missed"), (2, "missed")]


def test_missed_latest_makes_up_for_one() -> None:
    decision = decide(with_policy(missed="latest"), "a", T, T + 2 * HOUR + 10 * MINUTE)
    assert outcomes(decision) == [(0, "missed"), (1, "missed"), (2, "fired")]


def test_missed_all_makes_up_for_the_newest_in_order() -> None:
    spec = with_policy(missed="all", max=2, overlap="allow")
    decision = decide(spec, "a", T, T + 3 * HOUR + 10 * MINUTE)
    assert outcomes(decision) == [(0, "missed"), (1, "missed"), (2, "fired"), (3, "fired")]


def test_what_was_missed_before_the_window_is_not_made_up_for() -> None:
    spec = with_policy(missed="all", window="90m", overlap="allow")
    decision = decide(spec, "a", T, T + 3 * HOUR)
    assert outcomes(decision) == [(0, "missed"), (1, "missed"), (2, "fired"), (3, "fired")]
    assert "window" in str(decision.firings[0].reason)


def test_overlap_skip_names_the_run_in_the_way() -> None:
    decision = decide(HOURLY, "a", T, T, ["busy"])
    assert outcomes(decision) == [(0, "skipped")]
    assert "busy" in str(decision.firings[0].reason)
    assert decision.firings[0].run is None


def test_overlap_queue_makes_a_run_that_waits() -> None:
    decision = decide(with_policy(overlap="queue"), "a", T, T, ["busy"])
    assert outcomes(decision) == [(0, "queued")]
    assert decision.firings[0].run is not None


def test_overlap_allow_looks_at_nobody() -> None:
    assert outcomes(decide(with_policy(overlap="allow"), "a", T, T, ["busy"])) == [(0, "fired")]


def test_overlap_cancel_replaces_the_unfinished_run() -> None:
    decision = decide(with_policy(overlap="cancel", missed="all"), "a", T, T + HOUR, ["busy"])
    assert outcomes(decision) == [(0, "missed"), (1, "replaced")]
    assert decision.cancel == ("busy",)


def test_a_year_of_seconds_is_one_record_and_quick() -> None:
    for spec in (parse({"every": "1s"}), parse({"cron": "* * * * * *"})):
        due = next_after(spec, "a", T)
        assert due is not None
        decision = decide(spec, "a", due, due + 365 * DAY)
        assert len(decision.firings) <= schedule.MOST_LISTED + 1
        assert decision.summarised + len(decision.firings) - 1 == 365 * 86400 + 1 or not decision.counted
        assert decision.summarised >= 10_000
        assert "recorded as one" in str(decision.firings[0].reason)


def test_a_clock_that_went_back_an_hour_fires_nothing_again() -> None:
    decision = decide(HOURLY, "a", T, T)
    assert decision.next_at == T + HOUR
    for minutes in range(0, 120, 7):
        assert decide(HOURLY, "a", decision.next_at, T + HOUR - 1 - minutes * MINUTE) == Decision(next_at=T + HOUR)


def test_a_clock_that_went_back_a_moment_fires_a_rare_schedule_no_second_time() -> None:
    for spec in (parse({"every": "30d"}), parse({"cron": "0 0 1 1 *"})):
        due = next_after(spec, "a", T)
        assert due is not None
        after = decide(spec, "a", due, due).next_at
        assert after is not None
        for back in (1, MINUTE, 23 * HOUR):
            assert decide(spec, "a", after, due - back) == Decision(next_at=after)


def test_a_clock_that_was_years_ahead_does_not_silence_a_schedule() -> None:
    assert decide(HOURLY, "a", T + 900 * DAY, T + 1).next_at == T + HOUR


def test_a_schedule_without_a_next_moment_gets_one() -> None:
    assert decide(HOURLY, "a", None, T).next_at == T + HOUR


def test_a_run_has_the_same_id_whoever_makes_it() -> None:
    assert run_id("a", T) == run_id("a", T)
    assert run_id("a", T) < run_id("b", T + 1)
    assert len({run_id("a", T), run_id("b", T), run_id("a", T + 1)}) == 3


specs = st.builds(
    lambda every, missed, most, window, overlap: parse(
        {"every": every, "missed": missed, "max": most, "window": window, "overlap": overlap}
    ),
    st.sampled_from(["1s", "7s", "61s", "1h", "25h"]),
    st.sampled_from(["skip", "latest", "all"]),
    st.integers(1, 200),
    st.sampled_from(["10s", "1h", "30d"]),
    st.sampled_from(["skip", "queue", "cancel", "allow"]),
)
jumps = st.lists(
    st.one_of(st.integers(0, 5 * SECOND), st.integers(0, 3 * HOUR), st.integers(-2 * HOUR, 0), st.just(40 * DAY)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(specs, jumps, st.lists(st.text("ab", min_size=1, max_size=3), max_size=2))
def test_every_moment_gets_one_outcome_however_the_clock_jumps(spec: Spec, steps: list[int], active: list[str]) -> None:
    now, high, total, seen = T, T, 0, []
    due = first = next_after(spec, "a", now)
    assert first is not None
    for step in steps:
        now += step
        high = max(high, now)
        decision = decide(spec, "a", due, now, active)
        seen += [firing.due_at for firing in decision.firings]
        total += len(decision.firings) + max(0, decision.summarised - 1)
        assert decision.counted
        assert all((firing.run is None) == (firing.outcome in ("missed", "skipped")) for firing in decision.firings)
        due = decision.next_at
    assert seen == sorted(set(seen))
    every = to_ms(spec.every or "")
    assert total == max(0, (high - first) // every + 1)


@settings(max_examples=60, deadline=None)
@given(fields(), st.sampled_from(ZONES), st.integers(0, 1), st.lists(st.integers(-90, 600), min_size=1, max_size=8))
def test_no_moment_vanishes_on_a_day_with_a_change_of_clocks(
    field: tuple[str, set[int], set[int], bool], zone: str, which: int, minutes: list[int]
) -> None:
    spec = Spec(cron=field[0], zone=zone, missed="all", max=1000, overlap="allow")
    begin = now = high = ms(CHANGES[zone][which])
    due, seen = next_after(spec, "a", begin), []
    for step in minutes:
        now += step * MINUTE
        high = max(high, now)
        decision = decide(spec, "a", due, now)
        assert decision.summarised == 0
        seen += [firing.due_at for firing in decision.firings]
        due = decision.next_at
    assert seen == list(schedule.due_between(spec, "a", begin, high))
