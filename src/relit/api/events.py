"""Named events: as a stream that goes on, or page by page."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import closing
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response

from relit import documents
from relit.api import sse
from relit.api.operation import Api, Call, Operation
from relit.errors import Invalid
from relit.events import CATALOGUE, Event

_PAGE = 500
START = "start"
_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,18})?", re.ASCII)
_LOOK = 1.0  # seconds: on PostgreSQL an event may be announced a little before it can be read


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events. ``after``: an id, or ``start`` for the oldest kept; a stream without it begins now."""

    names: Annotated[list[str], Meta(description="Names or patterns: `run.completed`, `run.*`.")] = []
    agent: str | None = None
    run: str | None = None
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=5000)] = _PAGE


def expand(patterns: Sequence[str]) -> list[str]:
    """The names that patterns stand for; empty means all. Raises ``Invalid`` for one that fits none."""
    names: dict[str, None] = {}
    for pattern in patterns:
        fitting = [name for name in CATALOGUE if fnmatch.fnmatchcase(name, pattern)]
        if not fitting:
            raise Invalid(f"no event is called {pattern!r}", fix=f"the names are {', '.join(CATALOGUE)}")
        names.update(dict.fromkeys(fitting))
    return [] if len(names) == len(CATALOGUE) else list(names)


def wanted(event: Event, query: EventsQuery) -> bool:
    """Whether ``event`` is of the agent and run that were asked for."""
    return (query.agent is None or event.agent == query.agent) and (query.run is None or event.run == query.run)


async def events(call: Call) -> Response | documents.Events:
    """Events as they happen (server-sent events; resumes by Last-Event-ID), or a page of them as JSON."""
    query: EventsQuery = call.query
    names = expand(query.names)
    after = call.request.headers.get("last-event-id") or query.after
    if after not in (None, START):
        place(after)
    if "application/json" in call.request.headers.get("accept", ""):
        return await _page(call, "" if after in (None, START) else after, names)
    begin = await call.store.last_event() if after is None else "" if after == START else after
    return sse.respond(_frames(call.api, begin, names, query))


async def _page(call: Call, after: str, names: list[str]) -> documents.Events:
    query: EventsQuery = call.query
    found = await call.store.events(after, query.limit, names)
    kept = [event for event in found if wanted(event, query)]
    return documents.Events(events=kept, next=found[-1].id if found else after)


async def _frames(api: Api, at: str, names: list[str], query: EventsQuery) -> AsyncGenerator[bytes, None]:
    """Events from ``at`` on until the server ends. The first frame tells the reader where it is."""
    ends, keep_alive = api.parts.closing, api.parts.options.keep_alive
    step = min(_LOOK, keep_alive)
    quiet = 0.0
    with closing(api.store.subscribe("events")) as subscription:
        yield sse.mark(at) if at else sse.COMMENT
        while not ends.closed:
            page = await api.store.events(at, _PAGE, names)
            for event in page:
                at = event.id
                if wanted(event, query):
                    yield sse.frame(event.name, event.id, event)
            if len(page) == _PAGE or await ends.wait(subscription, step):
                continue
            quiet = 0.0 if page else quiet + step
            if quiet >= keep_alive and not ends.closed:
                quiet = 0.0
                yield sse.mark(at) if at else sse.COMMENT


def place(after: str) -> str:
    """An event's id as a caller sent it. Raises ``Invalid``."""
    if not _ID.fullmatch(after):
        raise Invalid(f"{after[:100]!r} is no event's id", fix="send the last id that was received, or none")
    return after


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/events",
        name="list_events",
        summary="Events as they happen (server-sent events; resumes by Last-Event-ID), or a page of them as JSON.",
        tag="events",
        handle=events,
        query=EventsQuery,
        answer=documents.Events,
        streams=True,
    ),
)
