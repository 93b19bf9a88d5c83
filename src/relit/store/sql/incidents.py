"""Operations on incidents, and on what is told of them."""

from __future__ import annotations

from collections.abc import Sequence

from relit.errors import NotFound
from relit.store.sql import queue, rows
from relit.store.sql.outside import one_by_one
from relit.store.sql.tx import Row, Tx
from relit.store.values import Alert, Incident

_SEVERITIES = ("info", "warning", "critical")


def no_incident(id: str) -> NotFound:
    """There is none, or no longer."""
    return NotFound(f"there is no incident {id!r}", fix="relit incidents --all")


@one_by_one
async def put(tx: Tx, told: Incident) -> bool:
    """The last word holds, with the events that belong to it."""
    row = (
        told.id, told.agent, told.instance, told.opened_at, told.resolved_at, told.severity, told.rung, told.group,
        told.title, told.rev, tx.now, tx.now, told.document,
    )  # fmt: skip
    if await tx.many("incident_add", [row]):
        names = ["incident.opened"] if told.open else ["incident.opened", "incident.resolved"]
        await _tell(tx, told, names)
        return True
    found = await tx.many("incident_lock", [(told.id,)])
    known = rows.incident(found[0][1:]) if found else None
    if known is None or not _newer(told, known):  # none: retention took it in this moment
        return False
    rev = max(told.rev, known.rev)
    changed = (told.id, told.resolved_at, told.severity, told.rung, told.group, told.title, rev, told.document, tx.now)
    await tx.many("incident_set", [changed])
    await _tell(tx, told, _events(told, known))
    return True


def _newer(told: Incident, known: Incident) -> bool:
    """Whether a report is no older than what is known. A trouble's end is the last thing that is said of it."""
    if told.open == known.open:
        return told.rev >= known.rev
    return not told.open


def _events(told: Incident, known: Incident) -> list[str]:
    if told.open != known.open:
        return ["incident.resolved"]
    deeper = told.rung > known.rung or _SEVERITIES.index(told.severity) > _SEVERITIES.index(known.severity)
    return ["incident.changed"] if deeper and told.open else []


async def _tell(tx: Tx, told: Incident, names: Sequence[str]) -> None:
    tx.topics.add("incidents")
    await queue.add_events(tx, [_event(tx, name, told) for name in names])


def _event(tx: Tx, name: str, told: Incident) -> Row:
    return queue.event(
        tx, name, told.agent, None, incident=told.id, title=told.title, severity=told.severity, rung=told.rung
    )


@one_by_one
async def put_alerts(tx: Tx, alerts: Sequence[Alert]) -> None:
    await tx.many("alert_add", [_row(each) for each in alerts])
    tx.topics.add("alerts")


def _row(alert: Alert) -> Row:
    return (
        alert.id, alert.channel, alert.kind, alert.incident, " ".join(alert.members), alert.severity, alert.state,
        alert.made_at, alert.tries, alert.retry_at, alert.sent_at, alert.why, int(alert.closed),
    )  # fmt: skip


@one_by_one
async def move_alert(tx: Tx, args: tuple[Alert, Alert]) -> bool:
    old, new = args
    was = (old.id, old.state, old.tries, old.retry_at)
    row = (*was, " ".join(new.members), new.severity, new.state, new.tries, new.retry_at, new.sent_at, new.why)
    if not await tx.many("alert_move", [row]):
        return False
    if new.closed:
        await tx.many("alert_close", [(new.incident, new.channel)])
    tx.topics.add("alerts")
    return True
