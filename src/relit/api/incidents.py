"""Incidents: troubles of agents, as their nodes tell them."""

from __future__ import annotations

import msgspec

from relit import documents
from relit.api.operation import Call, Operation
from relit.api.runs import Limit
from relit.documents.incidents import short, whole
from relit.errors import Conflict, NotFound
from relit.store.values import Incident, RunState

_UNFINISHED: tuple[RunState, ...] = ("running", "parked", "waiting", "available", "scheduled")
_RUNS_MOST = 50


class IncidentsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which incidents."""

    agent: str | None = None
    open: bool = False
    limit: Limit = 50
    before: str | None = None


async def list_incidents(call: Call) -> documents.Incidents:
    """Troubles of agents, newest first."""
    query: IncidentsQuery = call.query
    found = await call.store.incidents(agent=query.agent, open_only=query.open, limit=query.limit, before=query.before)
    return documents.Incidents(
        incidents=[short(each) for each in found], next=found[-1].id if len(found) == query.limit else None
    )


async def get(call: Call) -> documents.IncidentDetail:
    """A trouble, with the agent's effects in doubt and unfinished runs as they are now."""
    incident = await _find(call)
    found = whole(incident)
    found.effects = [
        documents.IncidentEffect(run=each.run, pos=each.pos, name=each.name, at=each.intent_at)
        for each in await call.store.effects(agent=incident.agent, states=("in_doubt",))
    ]
    found.effects += [
        documents.IncidentEffect(run=each.id, pos="", name=each.tool, at=each.started_at)
        for each in await call.store.tools.waiting(["in_doubt"])
        if each.agent == incident.agent
    ]
    found.runs = [
        documents.IncidentRun(id=run.id, target=run.target, state=run.state, reason=run.reason or "", at=run.created_at)
        for run in await call.store.runs(agent=incident.agent, states=_UNFINISHED, limit=_RUNS_MOST)
    ]
    return found


async def _find(call: Call) -> Incident:
    """By its id, or the beginning or end of it. Raises ``NotFound`` and ``Conflict``."""
    asked = call.path("id")
    try:
        return await call.store.incident(asked)
    except NotFound:
        found = await call.store.find_incidents(asked) if any(char.isalnum() for char in asked) else []
        if not found:
            raise
    if len(found) > 1:
        raise Conflict(f"{asked!r} fits several incidents", why=", ".join(found), fix="write more of the id")
    return await call.store.incident(found[0])


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/incidents",
        name="list_incidents",
        summary="Troubles of agents, newest first.",
        tag="incidents",
        handle=list_incidents,
        query=IncidentsQuery,
        answer=documents.Incidents,
    ),
    Operation(
        method="GET",
        path="/v1/incidents/{id}",
        name="get_incident",
        summary="A trouble, with the agent's effects in doubt and unfinished runs as they are now.",
        tag="incidents",
        handle=get,
        answer=documents.IncidentDetail,
    ),
)
