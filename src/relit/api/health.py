"""Whether the process lives, and whether it can work. Neither needs a token."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import msgspec
from msgspec import Meta

from relit import documents
from relit.api.operation import Call, Operation
from relit.errors import Conflict, StoreUnavailable


def version() -> str:
    """relit's version."""
    return importlib.metadata.version("relit")


async def healthz(call: Call) -> documents.Health:
    """The process answers."""
    return documents.Health(status="ok", version=version())


class Ready(msgspec.Struct, forbid_unknown_fields=True):
    """``of``: the server that is meant; another one at the same address is not it."""

    of: Annotated[str, Meta(description="The mark of the server that is meant: another one answers 409.")] = ""


async def readyz(call: Call) -> documents.Health:
    """The store answers, so requests can be served; 503 otherwise."""
    if call.query.of not in ("", call.api.parts.options.mark):
        raise Conflict("another server answers here", why="it serves another data folder")
    if call.api.parts.closing.closed:
        raise StoreUnavailable("this server is stopping", fix="try again: another one, or its successor, answers")
    await call.store.last_event()  # a read: the clock alone may not need the database
    return documents.Health(status="ready", version=version())


OPERATIONS = (
    Operation(
        method="GET",
        path="/healthz",
        name="healthz",
        summary="The process answers.",
        tag="health",
        handle=healthz,
        scope=None,
        answer=documents.Health,
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="readyz",
        query=Ready,
        summary="The store answers, so requests can be served; 503 otherwise.",
        tag="health",
        handle=readyz,
        scope=None,
        answer=documents.Health,
    ),
)
