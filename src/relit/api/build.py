"""The application: all routes, and what stands around them."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relit.api import (
    agents,
    effects,
    events,
    health,
    incidents,
    mailboxes,
    metrics,
    openapi,
    problem,
    runs,
    schedules,
    snapshots,
    subscribers,
    tokens,
    tools,
    usage,
    webhook_routes,
    workers,
)
from relit.api.hosts import HostCheck
from relit.api.operation import Api, Call, Operation, endpoint
from relit.api.parts import Parts


async def _document(call: Call) -> Response:
    data = msgspec.json.encode(openapi.document(OPERATIONS))
    return Response(data, media_type="application/json")


OPERATIONS: tuple[Operation, ...] = (
    *agents.OPERATIONS,
    *runs.OPERATIONS,
    *schedules.OPERATIONS,
    *mailboxes.OPERATIONS,
    *effects.OPERATIONS,
    *incidents.OPERATIONS,
    *usage.OPERATIONS,
    *tools.OPERATIONS,
    *events.OPERATIONS,
    *snapshots.OPERATIONS,
    *workers.OPERATIONS,
    *webhook_routes.OPERATIONS,
    *subscribers.OPERATIONS,
    *tokens.OPERATIONS,
    *health.OPERATIONS,
    *metrics.OPERATIONS,
    Operation(
        method="GET",
        path="/openapi.json",
        name="openapi",
        summary="This document.",
        tag="health",
        handle=_document,
        scope=None,
        answer=dict[str, Any],
    ),
)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = problem.from_http(error.status_code, request.url.path, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _failed(request: Request, error: Exception) -> Response:
    return problem.unexpected(request.url.path, error)


def build(parts: Parts) -> Starlette:
    """The ASGI application. ``parts.closing.close()`` ends its streams and long waits."""
    api = Api(parts)
    app = Starlette(
        routes=[Route(each.path, endpoint(each, api), methods=[each.method], name=each.name) for each in OPERATIONS],
        middleware=[Middleware(HostCheck, names=parts.options.hosts)],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    app.router.redirect_slashes = False
    app.state.parts = parts
    return app
