"""Incoming webhooks: a signed post becomes a message. Answered when it is on disk; the same delivery is one message."""

from __future__ import annotations

from typing import Any

import msgspec

from relit import documents
from relit.api import webhooks
from relit.api.operation import Call, Operation
from relit.api.parts import WebhookIn
from relit.errors import NotFound
from relit.store.values import NewRun

_DEDUP = "30d"  # senders try for days


def verify(hook: WebhookIn, headers: dict[str, str], body: bytes, now_s: float) -> webhooks.Verified:
    """Check a post. Raises ``Unauthorized``."""
    if hook.scheme == "standard":
        return webhooks.verify(hook.secret, headers, body, now_s)
    scheme = webhooks.Hmac(header=hook.header, prefix=hook.prefix, encoding=hook.encoding, id_header=hook.id_header)
    return webhooks.verify_hmac(scheme, hook.secret, headers, body, now_s)


def content(body: bytes) -> Any:
    """A post's body: JSON if it is, else text, else bytes."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


async def receive(call: Call) -> documents.Accepted:
    """A signed post from elsewhere becomes a message. Its signature is its token."""
    name, parts = call.path("name"), call.api.parts
    hook = parts.options.webhooks.get(name)
    if hook is None:
        raise NotFound(
            f"there is no webhook {name!r}", why="relit.toml has no such one", fix=f"add [webhooks.{name}] to it"
        )
    headers = dict(call.request.headers)
    signed = verify(hook, headers, call.body, parts.clock.now_ms() / 1000)
    return await _accept(call, name, hook, signed, _message(name, signed, headers, content(call.body)))


def _message(name: str, signed: webhooks.Verified, headers: dict[str, str], body: Any) -> dict[str, Any]:
    """The message: who sent what. Of the headers only those that say what kind of event it is."""
    told = {key: value for key, value in headers.items() if key.endswith(("-event", "-topic")) or key == "content-type"}
    return {"webhook": name, "id": signed.id, "headers": told, "body": body}


async def _accept(
    call: Call, name: str, hook: WebhookIn, signed: webhooks.Verified, message: dict[str, Any]
) -> documents.Accepted:
    defaults = call.api.parts.options.agents.get(hook.agent)
    options: dict[str, Any] = {}
    if signed.id is not None:
        options = {"dedup": f"webhook:{name}:{signed.id}", "dedup_window": _DEDUP}
    if defaults is not None:
        expire = None if defaults.expire_ms is None else f"{defaults.expire_ms}ms"
        options |= {"priority": defaults.priority, "expire": expire}
    run: NewRun = await call.api.parts.engine.make(hook.agent, [message], **options)
    made = (await call.store.enqueue([run]))[0]
    return documents.Accepted(id=made.id, created=made.created)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/webhooks/{name}",
        name="receive_webhook",
        summary="A signed post from elsewhere becomes a message. Its signature is its token.",
        tag="webhooks",
        handle=receive,
        scope=None,
        body=bytes,
        answer=documents.Accepted,
        status=202,
        parameters={
            "webhook-id": "Standard Webhooks: names the delivery.",
            "webhook-timestamp": "Standard Webhooks: seconds since 1970.",
            "webhook-signature": "Standard Webhooks: the signatures.",
        },
    ),
)
