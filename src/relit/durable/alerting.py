"""What is told of incidents, on which channel, and when. Pure.

The plan is made from what is there: incidents, and alerts that were made before. It does not matter who makes it, how
often, or what was lost in between: the same state gives the same plan, and its alerts have the same ids.

Incidents of one ``group`` that begin within ``gather_ms`` of the first are one *case*, told once for all of them; any
other incident is a case of its own. On each channel a case is told when it is as severe as the policy wants; again when
it is more severe than what was told, or has spread to agents that were not named; every ``repeat_ms`` while it is
critical; and once more when it is over, if it was told at all. One alert of a case at most waits on a channel: it says
what is true when it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from relit.lib.ids import derived_id
from relit.store.values import Alert, AlertKind, Incident, Severity

_SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """``repeat_ms`` 0: a critical case is told once. ``settle_ms``: so long everything waits, since a node finds out
    that troubles belong together when the next of them begins."""

    min_severity: Severity = "warning"
    repeat_ms: int = 4 * 3_600_000
    gather_ms: int = 120_000
    settle_ms: int = 5_000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts to be made, and those to be changed (as they are, as they shall be). ``look_at``: when there is more to be
    told even if nothing happens."""

    make: list[Alert] = []
    change: list[tuple[Alert, Alert]] = []
    look_at: int | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Incidents that are told together. ``id`` is the first one's."""

    id: str
    members: list[Incident]

    @property
    def open(self) -> list[Incident]:
        return [each for each in self.members if each.open]


def rank(severity: Severity) -> int:
    """Higher is worse."""
    return _SEVERITIES.index(severity)


def worst(severities: Iterable[Severity]) -> Severity:
    """The worst of them; ``info`` when there is none."""
    return max(severities, key=rank, default="info")


def pending(alert: Alert) -> bool:
    """Whether its channel is still to take it."""
    return alert.state in ("waiting", "sending")


def told(alert: Alert) -> bool:
    """Whether its channel took it, or may have: of one on its way nobody knows."""
    return alert.state in ("sent", "sending")


# --- cases -----------------------------------------------------------------------------------------------------------


def cases(incidents: Sequence[Incident], alerts: Sequence[Alert], gather_ms: int) -> list[Case]:
    """Incidents by what they are told as. What was told together stays together."""
    known = {each.id: each for each in incidents}
    homes: dict[str, set[str]] = {}
    for alert in alerts:
        homes.setdefault(alert.incident, set()).update(alert.members)
    placed = {id for members in homes.values() for id in members}
    ended = {each.incident for each in alerts if each.kind == "resolved"}
    firsts: dict[str, list[Incident]] = {}  # of the cases of a group that others may join, in order
    for first in _in_order(known[id] for id in homes.keys() - ended if id in known):
        firsts.setdefault(first.group, []).append(first)
    for incident in _in_order(each for each in incidents if each.id not in placed):
        near = firsts.setdefault(incident.group, []) if incident.group else []
        home = next((each for each in near if abs(each.opened_at - incident.opened_at) <= gather_ms), None)
        if home is None:
            near.append(incident)
        homes.setdefault((home or incident).id, set()).add(incident.id)
    return [
        Case(id=id, members=_in_order(known[each] for each in members if each in known))
        for id, members in homes.items()
    ]


def _in_order(incidents: Iterable[Incident]) -> list[Incident]:
    return sorted(incidents, key=lambda each: (each.opened_at, each.id))


# --- the plan --------------------------------------------------------------------------------------------------------


def plan(
    incidents: Sequence[Incident], alerts: Sequence[Alert], channels: Sequence[str], policy: Policy, now: int
) -> Plan:
    """What to do now. ``incidents``: all that are open, and all that ``alerts`` (those that are not closed) tell of."""
    rows: dict[tuple[str, str], list[Alert]] = {}
    for alert in alerts:
        rows.setdefault((alert.incident, alert.channel), []).append(alert)
    found = Plan()
    moments = []
    for case in cases(incidents, alerts, policy.gather_ms):
        for channel in channels:
            mine = rows.get((case.id, channel), [])
            if case.open:
                kind, look_at = _kind(case, mine, policy, now)
                moments.append(look_at)
                found.change.extend(_regrouped(case, mine))
            else:
                kind = _end(case, mine)
                found.change.extend(_withdrawn(case, mine))
            if kind is not None:
                found.make.append(_alert(case, channel, kind, len(mine), now))
    return msgspec.structs.replace(found, look_at=min((each for each in moments if each is not None), default=None))


def _kind(case: Case, mine: Sequence[Alert], policy: Policy, now: int) -> tuple[AlertKind | None, int | None]:
    """What to tell of an open case on a channel that was told ``mine``, or when to look again."""
    if any(pending(each) for each in mine):
        return None, None
    moments = _moments(case, [each for each in mine if told(each)], policy)
    ready = [kind for kind, at in moments if at <= now]
    return (ready[0], None) if ready else (None, min((at for _, at in moments), default=None))


def _moments(case: Case, heard: Sequence[Alert], policy: Policy) -> list[tuple[AlertKind, int]]:
    """What there is to be told, and from when on."""
    severity = worst(each.severity for each in case.open)
    if rank(severity) < rank(policy.min_severity):
        return []
    if not heard:
        return [("opened", _seen(case.open) + (policy.gather_ms if case.members[0].group else policy.settle_ms))]
    found: list[tuple[AlertKind, int]] = []
    if rank(severity) > rank(worst(each.severity for each in heard)):
        found.append(("worse", 0))
    named = {id for each in heard for id in each.members}
    if unnamed := [each for each in case.open if each.id not in named]:
        found.append(("worse", _seen(unnamed) + policy.gather_ms))
    if severity == "critical" and policy.repeat_ms:
        found.append(("again", max(each.sent_at or each.made_at for each in heard) + policy.repeat_ms))
    return found


def _seen(incidents: Iterable[Incident]) -> int:
    """When the first of them was heard of."""
    return min(each.seen_at for each in incidents)


def _end(case: Case, mine: Sequence[Alert]) -> AlertKind | None:
    """A case is over: who was told of it is told so."""
    if not case.members or any(each.kind == "resolved" for each in mine) or not any(told(each) for each in mine):
        return None
    return "resolved"


def _regrouped(case: Case, mine: Sequence[Alert]) -> list[tuple[Alert, Alert]]:
    """What waits tells of those who joined meanwhile, too."""
    members = [each.id for each in case.members]
    return [
        (each, msgspec.structs.replace(each, members=members))
        for each in mine
        if pending(each) and each.kind != "resolved" and each.members != members
    ]


def _withdrawn(case: Case, mine: Sequence[Alert]) -> list[tuple[Alert, Alert]]:
    """What waits need not be told any more. Of incidents that retention took, nothing is told at all."""
    heard = bool(case.members) and any(told(each) for each in mine)
    return [
        (each, msgspec.structs.replace(each, state="withdrawn", retry_at=None, closed=not heard))
        for each in mine
        if pending(each) and (each.kind != "resolved" or not case.members)
    ]


def _alert(case: Case, channel: str, kind: AlertKind, number: int, now: int) -> Alert:
    return Alert(
        id=derived_id("alert", case.id, channel, str(number)),
        channel=channel,
        kind=kind,
        incident=case.id,
        members=[each.id for each in case.members],
        severity=worst(each.severity for each in case.open or case.members),
        made_at=now,
    )


def due(alerts: Sequence[Alert], channel: str, now: int) -> tuple[Alert | None, int | None]:
    """The alert to be sent next on a channel; else the moment of the next one."""
    mine = [each for each in alerts if each.channel == channel and pending(each)]
    first = min(mine, key=lambda each: (each.retry_at or 0, each.made_at, each.id), default=None)
    if first is None or first.retry_at is None or first.retry_at <= now:
        return first, None
    return None, first.retry_at
