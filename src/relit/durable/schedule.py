"""When a schedule is due, and what becomes of the moments that were missed: pure.

``every``: moments lie at fixed distances from 1970 (from ``start``, when given), so that restarts move nothing. Each
schedule has a place of its own inside the interval, made from its name: a fleet's heartbeats spread, and each keeps its
beat. ``jitter`` narrows that span; ``0s`` puts all on the same moment.

``cron``: five fields (six with seconds) in ``zone``. The rule for clock changes is the usual one of cron daemons. A
time of day that is skipped in spring happens at the first moment after the gap, once; one that comes twice in autumn
happens the first time. Minutes or hours given as ``*`` or ``*/n`` follow elapsed time instead: they skip the gap and
happen in both passes. ``jitter`` delays each moment by a fixed share of itself.

Of the moments that have passed, only the newest can be on time, and only for a minute. The others are late, and
``missed`` decides: none, the latest, or all of them (at most ``max``, not older than ``window``) are made up for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, NoReturn
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from relit.errors import ConfigError
from relit.lib.clock import iso
from relit.lib.durations import to_ms
from relit.lib.ids import derived_id
from relit.store.values import Firing, Outcome

GRACE_MS = 60_000
REWIND_MS = 86_400_000
MOST_LISTED = 100  # missed moments recorded one by one; older ones share a record
MOST_MADE_UP = 1000
_MOST_COUNTED = 10_000
_WINDOWS_MS = (60_000, 3_600_000, 86_400_000, 30 * 86_400_000)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # clock readings are held as if they were UTC


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a schedule was made with. Exactly one of ``cron`` and ``every``; durations as people write them."""

    every: str | None = None
    cron: str | None = None
    zone: str = "UTC"
    jitter: str | None = None  # with every: the whole interval (none, when start is given); with cron: none
    start: str | None = None  # ISO 8601 with a zone: nothing is due before it
    missed: Literal["skip", "latest", "all"] = "latest"
    max: int = 10
    window: str = "1d"
    overlap: Literal["skip", "queue", "cancel", "allow"] = "skip"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to write in one commit. Firings that have a run are to be started, in order; ``cancel`` names runs.

    The oldest firing may stand for ``summarised`` moments that are too many to list (``counted``: exactly so many;
    otherwise at least).
    """

    firings: tuple[Firing, ...] = ()
    cancel: tuple[str, ...] = ()
    next_at: int | None = None
    summarised: int = 0
    counted: bool = True


# ------------------------------------------------------------------------------------------------------ making a spec


def parse(data: Mapping[str, Any] | bytes) -> Spec:
    """A checked ``Spec`` from settings, a request or a row. Raises ``ConfigError``."""
    try:
        spec = msgspec.json.decode(data, type=Spec) if isinstance(data, bytes) else msgspec.convert(data, Spec)
    except msgspec.MsgspecError as error:
        _refuse(str(error))
    check(spec)
    return spec


def check(spec: Spec) -> None:
    """Raises ``ConfigError`` unless the spec makes sense."""
    if (spec.every is None) == (spec.cron is None):
        _refuse("it needs exactly one of every and cron")
    if not 1 <= spec.max <= MOST_MADE_UP:
        _refuse(f"max = {spec.max} is not between 1 and {MOST_MADE_UP}")
    try:
        to_ms(spec.window)
        jitter = to_ms(spec.jitter or "0s")
        if spec.every is not None:
            _check_every(to_ms(spec.every), jitter)
        if spec.start is not None and datetime.fromisoformat(spec.start).tzinfo is None:
            _refuse(f"start = {spec.start!r} has no time zone")
    except ValueError as error:
        _refuse(str(error))
    _check_cron(spec)


def _check_every(every: int, jitter: int) -> None:
    if every < 1000:
        _refuse("every is shorter than a second")
    if jitter > every:
        _refuse("jitter is longer than every")


def _check_cron(spec: Spec) -> None:
    try:
        ZoneInfo(spec.zone)
    except (KeyError, ValueError, OSError):  # zoneinfo's ways to say that it has no such name
        _refuse(f"{spec.zone!r} is not a time zone")
    if spec.cron is None:
        return
    try:
        found = next(CronSim(spec.cron, datetime(2026, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        _refuse(f"{spec.cron!r} is not a cron expression: {error}")
    if found is None:
        _refuse(f"{spec.cron!r} never comes")


def _refuse(why: str) -> NoReturn:
    raise ConfigError(
        "the schedule cannot be used",
        why=why,
        fix='write every = "30m", or cron = "0 9 * * MON-FRI" with zone = "Europe/Berlin"',
    )


# ------------------------------------------------------------------------------------------------------ due moments


def next_after(spec: Spec, name: str, t_ms: int) -> int | None:
    """The first due moment after ``t_ms``; None when there is none any more."""
    start = _start_ms(spec)
    if start is not None:
        t_ms = max(t_ms, start - 1)
    if spec.every is not None:
        every = to_ms(spec.every)
        phase = offset(spec, name) + (start or 0)
        return t_ms + 1 + (phase - t_ms - 1) % every
    shift = offset(spec, name)
    found = _cron_after(spec.cron or "", ZoneInfo(spec.zone), (t_ms - shift) // 1000)
    return None if found is None else found * 1000 + shift


def offset(spec: Spec, name: str) -> int:
    """This schedule's own place in the jitter span, in ms: the same for ever, spread evenly over names."""
    if spec.jitter is not None:
        span = to_ms(spec.jitter)
    else:
        span = to_ms(spec.every) if spec.every is not None and spec.start is None else 0
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") * span >> 64


def due_between(spec: Spec, name: str, after: int, until: int) -> Iterator[int]:
    """The due moments in ``(after, until]``, in order."""
    at = next_after(spec, name, after)
    while at is not None and at <= until:
        yield at
        at = next_after(spec, name, at)


def _start_ms(spec: Spec) -> int | None:
    return None if spec.start is None else round(datetime.fromisoformat(spec.start).timestamp() * 1000)


def _cron_after(cron: str, zone: tzinfo, t: int) -> int | None:
    """The first moment after ``t`` (seconds) at which a clock in ``zone`` matches.

    Matches are found on a calendar without zones and then placed in time, because a search that steps through real
    time loses its way where the clock goes back by half an hour.
    """
    # At times of day the first place of each match counts, and those grow with the matches. With wildcards, a match
    # that lies behind on the clock may come again: begin earlier by as much as the clock is about to go back.
    fixed = _names_times(cron)
    back = 0 if fixed else max(0, _shift(zone, t) - _shift(zone, t + 86_400))
    best: int | None = None
    for wall in CronSim(cron, _EPOCH + timedelta(seconds=t + _shift(zone, t) - back)):
        moments = _moments(wall, zone, fixed)
        if best is not None and moments and moments[0] >= best:
            break
        later = [moment for moment in moments if moment > t]
        if later:
            best = min(later) if best is None else min(best, *later)
            if fixed:
                break
    return best


def _names_times(cron: str) -> bool:
    """Whether minutes and hours are given as times of day rather than as a rhythm."""
    minute, hour = cron.split()[-5:-3]
    return not minute.startswith("*") and not hour.startswith("*")


def _moments(wall: datetime, zone: tzinfo, fixed: bool) -> list[int]:
    """When clocks show ``wall``: once, twice (autumn) or never (spring), as seconds since 1970."""
    early, late = wall.replace(tzinfo=zone), wall.replace(tzinfo=zone, fold=1)
    before, after = _seconds(early.utcoffset()), _seconds(late.utcoffset())
    shown = _seconds(wall - _EPOCH)
    if before >= after:
        return [shown - before] if fixed or before == after else [shown - before, shown - after]
    return [_transition(zone, shown - after, shown - before)] if fixed else []


def _transition(zone: tzinfo, low: int, high: int) -> int:
    """The first second after ``low``, up to ``high``, at which the clocks have changed."""
    old = _shift(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _shift(zone, middle) == old else (low, middle)
    return high


def _shift(zone: tzinfo, t: int) -> int:
    return _seconds(datetime.fromtimestamp(t, UTC).astimezone(zone).utcoffset())


def _seconds(span: timedelta | None) -> int:
    return 0 if span is None else span // timedelta(seconds=1)


# ------------------------------------------------------------------------------------------------------ the verdict


def run_id(name: str, due_at: int) -> str:
    """The id of the run for one due moment: whoever makes it, and however often, it is the same run."""
    return derived_id("schedule", name, str(due_at), at=due_at)


def decide(spec: Spec, name: str, due_at: int | None, now: int, active: Sequence[str] = ()) -> Decision:
    """What to do at ``now`` when the first moment not yet dealt with is ``due_at`` and the runs ``active`` go on.

    A clock that went back makes nothing due again: it is quiet until ``due_at``. Only when it went back by more than a
    day was the earlier time a mistake, and the schedule is set back.
    """
    next_at = next_after(spec, name, now)
    if due_at is None:
        return Decision(next_at=next_at)
    if due_at > now:
        # A moment a day from now that counts as dealt with: the clock was ahead by more than that.
        later = next_after(spec, name, now + REWIND_MS)
        return Decision(next_at=next_at if later is not None and later < due_at else due_at)
    listed, summary = _passed(spec, name, due_at, now)
    chosen = _chosen(spec, listed, now)
    firings, cancel = _overlap(spec, name, chosen, active)
    missed = [_firing(name, at, "missed", reason=_why_missed(spec, at, now)) for at in listed if at not in chosen]
    ordered = sorted([*missed, *firings], key=lambda firing: firing.due_at)
    if summary.moments:
        first = _firing(name, due_at, "missed", reason=summary.text())
        ordered.insert(0, first)
    return Decision(
        firings=tuple(ordered),
        cancel=cancel,
        next_at=next_at,
        summarised=summary.moments,
        counted=summary.exact,
    )


class _Summary(msgspec.Struct, frozen=True):
    moments: int = 0
    exact: bool = True
    begin: int = 0
    end: int = 0

    def text(self) -> str:
        count = f"{self.moments}" if self.exact else f"at least {self.moments}"
        return f"{count} firings missed between {iso(self.begin)} and {iso(self.end)}, recorded as one"


def _passed(spec: Spec, name: str, due_at: int, now: int) -> tuple[list[int], _Summary]:
    """The newest passed moments one by one, and a summary of the rest."""
    most = max(MOST_LISTED, spec.max)
    begin = due_at
    for window in _WINDOWS_MS:  # a second's schedule that slept a year is not walked through
        begin = max(due_at, now - window)
        listed = list(due_between(spec, name, begin - 1, now))
        if begin == due_at or len(listed) >= most:
            break
    else:
        begin = due_at
        listed = list(due_between(spec, name, begin - 1, now))
    if begin == due_at and due_at not in listed[:1]:
        listed.insert(0, due_at)  # promised under an earlier spec or zone database: still one of its moments
    if len(listed) > most:
        begin, listed = listed[-most], listed[-most:]
    return listed, _summary(spec, name, due_at, begin)


def _summary(spec: Spec, name: str, due_at: int, begin: int) -> _Summary:
    """Of the moments in ``[due_at, begin)``."""
    if begin <= due_at:
        return _Summary()
    if spec.every is not None:
        every = to_ms(spec.every)
        phase = (offset(spec, name) + (_start_ms(spec) or 0)) % every
        count = (begin - 1 - phase) // every - (due_at - phase) // every + 1
        return _Summary(max(1, count), True, due_at, begin)
    count = 0
    for _ in due_between(spec, name, due_at, begin - 1):
        count += 1
        if count >= _MOST_COUNTED:
            return _Summary(count, False, due_at, begin)
    return _Summary(count + 1, True, due_at, begin)


def _chosen(spec: Spec, listed: Sequence[int], now: int) -> tuple[int, ...]:
    """The moments that are to have a run: the newest if it is on time, and late ones as ``missed`` says."""
    newest = listed[-1]
    on_time = now - newest <= GRACE_MS
    if spec.missed == "skip":
        return (newest,) if on_time else ()
    oldest = now - to_ms(spec.window)
    fresh = [at for at in listed if at >= oldest or (at == newest and on_time)]
    return tuple(fresh[-1:] if spec.missed == "latest" else fresh[-spec.max :])


def _why_missed(spec: Spec, at: int, now: int) -> str:
    if spec.missed == "skip":
        return f"nothing ran until {iso(now)}; missed = skip"
    if now - at > to_ms(spec.window):
        return f"nothing ran until {iso(now)}, longer than the window of {spec.window}"
    if spec.missed == "latest":
        return f"nothing ran until {iso(now)}; only the latest is made up for"
    return f"nothing ran until {iso(now)}; at most {spec.max} are made up for"


def _overlap(
    spec: Spec, name: str, chosen: Sequence[int], active: Sequence[str]
) -> tuple[list[Firing], tuple[str, ...]]:
    """Firings of the chosen moments, given the runs that have not finished; and the runs to cancel."""
    if spec.overlap == "cancel":
        return _replacing(name, chosen, active)
    firings: list[Firing] = []
    unfinished = list(active)
    for at in chosen:
        if unfinished and spec.overlap == "skip":
            firings.append(_firing(name, at, "skipped", reason=f"run {unfinished[-1]} has not finished"))
            continue
        waits = bool(unfinished) and spec.overlap == "queue"
        reason = f"behind run {unfinished[-1]}" if waits else None
        firings.append(_firing(name, at, "queued" if waits else "fired", run=run_id(name, at), reason=reason))
        unfinished.append(run_id(name, at))
    return firings, ()


def _replacing(name: str, chosen: Sequence[int], active: Sequence[str]) -> tuple[list[Firing], tuple[str, ...]]:
    if not chosen:
        return [], ()
    *older, newest = chosen
    firings = [_firing(name, at, "missed", reason=f"replaced by the firing of {iso(newest)}") for at in older]
    reason = f"replaced {', '.join(active)}" if active else None
    firings.append(_firing(name, newest, "replaced" if active else "fired", run=run_id(name, newest), reason=reason))
    return firings, tuple(active)


def _firing(name: str, at: int, outcome: Outcome, *, run: str | None = None, reason: str | None = None) -> Firing:
    return Firing(schedule=name, due_at=at, outcome=outcome, run=run, reason=reason)
