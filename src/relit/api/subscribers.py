"""Outgoing webhooks: who is told of which events."""

from __future__ import annotations

import base64
import secrets
from typing import Annotated

import msgspec
from msgspec import Meta

from relit import documents
from relit.api.events import expand
from relit.api.operation import Call, Operation
from relit.errors import NotFound
from relit.store.values import Subscriber


class SubscriberBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An outgoing webhook (Standard Webhooks). Without ``secret`` one is made and shown in the answer."""

    url: Annotated[str, Meta(pattern=r"^https?://[^/]+")]
    events: Annotated[list[str], Meta(min_length=1, description="Names or patterns: `run.failed`, `run.*`.")] = (
        msgspec.field(default_factory=lambda: ["*"])
    )
    secret: Annotated[str, Meta(min_length=1)] | None = None


def new_secret() -> str:
    """A fresh signing secret as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _document(subscriber: Subscriber) -> documents.Subscriber:
    return documents.Subscriber(
        name=subscriber.name,
        url=subscriber.url,
        events=subscriber.events,
        cursor=subscriber.cursor,
        failures=subscriber.failures,
        retry_at=subscriber.retry_at,
    )


async def _find(call: Call) -> Subscriber | None:
    name = call.path("name")
    return next((each for each in await call.store.subscribers() if each.name == name), None)


async def list_subscribers(call: Call) -> documents.Subscribers:
    """Outgoing webhooks."""
    return documents.Subscribers(subscribers=[_document(each) for each in await call.store.subscribers()])


async def put(call: Call) -> documents.Subscriber:
    """A new one begins with the next event; a changed one goes on where it is, and is tried again at once."""
    asked: SubscriberBody = call.body
    expand(asked.events)
    before = await _find(call)
    made = None if asked.secret or before else new_secret()
    subscriber = Subscriber(
        name=call.path("name"),
        url=asked.url,
        events=asked.events,
        secret=asked.secret or made or (before.secret if before else ""),
        cursor=before.cursor if before else await call.store.last_event(),
    )
    await call.store.put_subscriber(subscriber)
    shown = _document(subscriber)
    if made is not None:
        shown.secret = made
    return shown


async def remove(call: Call) -> None:
    """Remove an outgoing webhook."""
    if await _find(call) is None:
        raise NotFound(f"there is no outgoing webhook {call.path('name')!r}")
    await call.store.remove_subscriber(call.path("name"))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/subscribers",
        name="list_subscribers",
        summary="Outgoing webhooks.",
        tag="webhooks",
        handle=list_subscribers,
        scope="admin",
        answer=documents.Subscribers,
    ),
    Operation(
        method="PUT",
        path="/v1/subscribers/{name}",
        name="put_subscriber",
        summary="Add or change an outgoing webhook.",
        tag="webhooks",
        handle=put,
        scope="admin",
        body=SubscriberBody,
        answer=documents.Subscriber,
    ),
    Operation(
        method="DELETE",
        path="/v1/subscribers/{name}",
        name="remove_subscriber",
        summary="Remove an outgoing webhook.",
        tag="webhooks",
        handle=remove,
        scope="admin",
        status=204,
    ),
)
