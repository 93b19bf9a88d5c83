"""One row of the route table: method, path, what it takes and answers, and who may call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from relit.api import body, problem
from relit.api.auth import Guard, Scope
from relit.api.meter import EventCount, Meter
from relit.api.parts import Parts
from relit.api.render import Renderer
from relit.api.targets import Targets
from relit.errors import RelitError

_JSON = "application/json"
_TOLD = (401, 403)


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No parameters."""


class Api:
    """What handlers share: the parts, and what was made of them once."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.store = parts.store
        self.render = Renderer(parts.payloads, parts.options.blob_preview)
        self.guard = Guard(parts.store, parts.options.token_cache, parts.clock)
        self.meter = Meter(parts.clock)
        self.event_count = EventCount(parts.store)
        self.targets = Targets(parts.store, parts.options.agents, parts.options.deaf)


class Call:
    """One request: ``body`` and ``query`` have the shapes that the operation declares (``body`` may be raw bytes).
    ``who``: the name of the token that was shown."""

    def __init__(self, api: Api, request: Request, body: Any, query: Any, who: str = "") -> None:
        self.who = who
        self.api = api
        self.store = api.store
        self.request = request
        self.body = body
        self.query = query

    def path(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.request.path_params[name])

    @property
    def idempotency_key(self) -> str | None:
        """The caller's key: the same key again answers what the first call made."""
        return self.request.headers.get("idempotency-key") or None


Handle = Callable[[Call], Awaitable[Any]]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A row. ``answer`` is a document's type, or a media type for what is not JSON. ``body`` ``bytes``: taken raw."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    name: str
    summary: str
    tag: str
    handle: Handle
    scope: Scope | None = "read"
    query: type = Nothing
    body: Any = None
    takes: Any = None  # what the document says of a raw body
    answer: Any = None
    streams: bool = False  # may answer with server-sent events as well
    status: int = 200
    keyed: bool = False  # takes an Idempotency-Key header
    parameters: Mapping[str, str] = {}  # headers it reads: name to meaning


def endpoint(operation: Operation, api: Api) -> Callable[[Request], Awaitable[Response]]:
    """The Starlette endpoint of a row: admits, reads, calls the handler, answers, and counts."""

    async def serve(request: Request) -> Response:
        with api.meter.measure(operation.method, operation.path) as outcome:
            try:
                response = await _serve(operation, api, request)
            except RelitError as error:
                response = problem.respond(error)
                if response.status_code in _TOLD:
                    api.parts.refused("", error.code, f"{operation.method} {operation.path}: {error.what}")
            outcome.status = response.status_code
            return response

    return serve


async def _serve(operation: Operation, api: Api, request: Request) -> Response:
    who = ""
    if operation.scope is not None:
        who = (await api.guard.admit(request.headers.get("authorization", ""), operation.scope)).name
    query: Any = body.parameters(list(request.query_params.multi_items()), operation.query)
    answer = await operation.handle(Call(api, request, await _body(operation, api, request), query, who))
    if isinstance(answer, Response):
        return answer
    if answer is None:
        return Response(status_code=204)
    return Response(msgspec.json.encode(answer), status_code=operation.status, media_type=_JSON)


async def _body(operation: Operation, api: Api, request: Request) -> Any:
    if operation.body is None:
        return None
    data = await body.read(request, api.parts.options.max_body)
    return data if operation.body is bytes else body.parse(data, operation.body)
