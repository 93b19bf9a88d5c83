"""What an alert says: its subject, its text, and its JSON for a pager or a program. Pure.

Log lines and configuration stay on the machine: they may hold what a chat room should not see. The text names the
command that shows them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relit.documents import IncidentDetail
from relit.documents.postmortem import did, one_line, sentence
from relit.lib.clock import iso
from relit.lib.durations import human
from relit.store.values import AlertKind, Severity

_MARKS: dict[AlertKind, str] = {"opened": "", "worse": " (worse)", "again": " (still open)", "resolved": ""}
_NAMED = 5  # agents in a subject
_LISTED = 50  # agents in a text
_DID = 8
_SUMMARY = 1024  # a pager's limit


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as it is sent. ``id`` is the same whenever it is sent again, ``key`` for all that is told of a case.
    ``at``: now, in ms."""

    id: str
    key: str
    kind: AlertKind
    severity: Severity
    incidents: list[IncidentDetail]
    at: int


def subject(notice: Notice) -> str:
    """The alert in one line."""
    word = "RESOLVED" if notice.kind == "resolved" else notice.severity.upper() + _MARKS[notice.kind]
    first = notice.incidents[0]
    title = one_line(first.title or first.cause) or f"{one_line(first.agent)} is in trouble"
    if len(notice.incidents) == 1:
        return f"{word} {title}"
    return f"{word} {len(notice.incidents)} agents ({_names(notice)}), as {title}"


def _names(notice: Notice) -> str:
    names = list(dict.fromkeys(one_line(each.agent) for each in notice.incidents))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def text(notice: Notice) -> str:
    """The alert in plain text."""
    if len(notice.incidents) == 1:
        return "\n".join(_one(notice.incidents[0], notice.at)) + "\n"
    lines = [f"- {_brief(each, notice.at)}" for each in notice.incidents[:_LISTED]]
    if len(notice.incidents) > _LISTED:
        lines.append(f"- and {len(notice.incidents) - _LISTED} more")
    head = f"{len(notice.incidents)} agents are in trouble together: one cause outside of them is likely."
    if notice.kind == "resolved":
        head = f"The trouble of {len(notice.incidents)} agents is over."
    return "\n".join([head, "", *lines, "", "More: relit incidents --all"]) + "\n"


def _one(incident: IncidentDetail, now: int) -> list[str]:
    told = [
        ("Impact", incident.impact),
        ("Exit", incident.exit),
        ("Since", _since(incident, now)),
        ("Rung", f"{incident.rung} of 4"),
        ("Next", incident.next),
        ("More", f"relit why {incident.agent}"),
    ]
    lines = [f"{name}: {one_line(said)}" for name, said in told if said]
    actions = [f"- {one_line(each.what)}: {one_line(each.outcome) or 'done'}" for each in did(incident.timeline)]
    return [sentence(incident), "", *lines, *(["", "What relit did:", *actions[-_DID:]] if actions else [])]


def _since(incident: IncidentDetail, now: int) -> str:
    if incident.resolved_at is None:
        return f"{iso(incident.opened_at)} ({human(max(0, now - incident.opened_at))})"
    return f"{iso(incident.opened_at)}, over after {human(max(0, incident.resolved_at - incident.opened_at))}"


def _brief(incident: IncidentDetail, now: int) -> str:
    return one_line(f"{sentence(incident)} Since {_since(incident, now)}. More: relit why {incident.agent}")


def plain(notice: Notice) -> dict[str, Any]:
    """The alert for a program."""
    return {
        "type": f"alert.{notice.kind}",
        "id": notice.id,
        "key": notice.key,
        "timestamp": iso(notice.at),
        "severity": notice.severity,
        "subject": subject(notice),
        "text": text(notice),
        "incidents": [_fields(each) for each in notice.incidents],
    }


def pagerduty(notice: Notice, routing_key: str) -> dict[str, Any]:
    """The alert as an event of PagerDuty's Events API v2: all of a case have one ``dedup_key``."""
    named = {"routing_key": routing_key, "dedup_key": notice.key, "client": "relit"}
    if notice.kind == "resolved":
        return named | {"event_action": "resolve"}
    first = notice.incidents[0]
    payload = {
        "summary": subject(notice)[:_SUMMARY],
        "source": _names(notice),
        "severity": notice.severity,
        "timestamp": iso(first.opened_at),
        "component": one_line(first.instance or first.agent),
        "group": one_line(first.group),
        "class": "incident",
        "custom_details": {
            "text": text(notice),
            "incidents": [_fields(each) for each in notice.incidents[:_LISTED]],
        },
    }
    return named | {"event_action": "trigger", "payload": payload}


def _fields(incident: IncidentDetail) -> dict[str, Any]:
    names = ("id", "agent", "instance", "severity", "title", "cause", "impact", "next")
    numbers = {"rung": incident.rung, "opened_at": incident.opened_at, "resolved_at": incident.resolved_at}
    return {name: one_line(getattr(incident, name)) for name in names} | numbers
