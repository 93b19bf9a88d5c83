"""What the HTTP API says of incidents. Read them as ``documents.NAME``."""

from __future__ import annotations

from typing import Any

import msgspec

from relit.store import values
from relit.store.values import RunState, Severity


class Incident(msgspec.Struct, kw_only=True):
    """A trouble of an agent, in short. ``rung`` is the highest that was reached, of 4."""

    id: str
    agent: str
    instance: str = ""
    opened_at: int
    resolved_at: int | None = None
    severity: Severity = "info"
    rung: int = 1
    title: str = ""
    group: str = ""
    updated_at: int = 0

    @property
    def open(self) -> bool:
        """Whether the trouble goes on."""
        return self.resolved_at is None

    @property
    def grave(self) -> bool:
        """Whether it goes on and a person should know of it."""
        return self.open and self.severity != "info"


class Incidents(msgspec.Struct, kw_only=True):
    """A page of incidents, newest first. ``next``: pass it as ``before`` for the next page; absent on the last."""

    incidents: list[Incident]
    next: str | None = None


class IncidentEntry(msgspec.Struct, kw_only=True):
    """A line of the timeline. ``outcome`` and ``took_ms`` are there for what relit did by itself."""

    at: int
    what: str
    outcome: str = ""
    took_ms: int | None = None


class IncidentEffect(msgspec.Struct, kw_only=True):
    """An effect of the agent of which nobody knows whether it happened. No ``pos``: ``run`` is a call to a tool."""

    run: str
    pos: str
    name: str
    at: int = 0


class IncidentRun(msgspec.Struct, kw_only=True):
    """A run of the agent that has not ended."""

    id: str
    target: str
    state: RunState
    reason: str = ""
    at: int = 0


class IncidentDetail(Incident, kw_only=True):
    """A trouble of an agent, whole. ``memory``: (at, bytes); ``config``: a diff of each file against known-good.

    ``effects`` in doubt and unfinished ``runs`` are those of the agent at the time of asking.
    """

    cause: str = ""
    impact: str = ""
    exit: str = ""
    timeline: list[IncidentEntry] = []
    memory: list[tuple[int, int]] = []
    log: list[str] = []
    config: dict[str, str] = {}
    next: str = ""
    effects: list[IncidentEffect] = []
    runs: list[IncidentRun] = []


class _Named(msgspec.Struct):
    """What a node calls by another name."""

    opened_ms: int
    resolved_ms: int | None = None
    timeline: list[dict[str, Any]] = []


def reported(data: bytes) -> IncidentDetail:
    """What a node wrote down. Raises ``msgspec.MsgspecError``."""
    named = msgspec.json.decode(data, type=_Named)
    timeline = [{**each, "at": each.get("at_ms")} for each in named.timeline]
    renamed = {"opened_at": named.opened_ms, "resolved_at": named.resolved_ms, "timeline": timeline}
    return msgspec.convert(msgspec.json.decode(data, type=dict[str, Any]) | renamed, IncidentDetail)


def short(incident: values.Incident) -> Incident:
    """A trouble as lists have it."""
    return Incident(**{name: getattr(incident, name) for name in Incident.__struct_fields__})


def whole(incident: values.Incident) -> IncidentDetail:
    """A trouble with all that its node wrote down. A report that cannot be read is left out, and that is said."""
    try:
        found = reported(incident.document)
    except msgspec.MsgspecError as error:
        cause = f"its node's report cannot be read: {error}"
        found = IncidentDetail(id=incident.id, agent=incident.agent, opened_at=incident.opened_at, cause=cause)
    for name in Incident.__struct_fields__:  # the store's word holds
        setattr(found, name, getattr(incident, name))
    return found
