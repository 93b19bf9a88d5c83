"""API tokens: list, make, remove."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from relit import documents
from relit.api.auth import Scope, digest, new_secret
from relit.api.operation import Call, Operation
from relit.errors import Conflict, NotFound
from relit.store.values import Token

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new token. Scopes: ``read``, ``write`` (and read), ``admin`` (and both)."""

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["write"])


def _document(token: Token) -> documents.Token:
    return documents.Token(name=token.name, scopes=token.scopes, created_at=token.created_at)


async def list_tokens(call: Call) -> documents.Tokens:
    """All tokens, without their secrets."""
    return documents.Tokens(tokens=[_document(token) for token in await call.store.tokens()])


async def make(call: Call) -> documents.Token:
    """Make a token. This answer is the only place where it is shown."""
    asked: TokenBody = call.body
    if any(token.name == asked.name for token in await call.store.tokens()):
        raise Conflict(f"there is a token {asked.name!r} already", fix=f"relit token remove {asked.name}")
    secret = new_secret()
    token = Token(
        name=asked.name, hash=digest(secret), scopes=list(asked.scopes), created_at=call.api.parts.clock.now_ms()
    )
    await call.store.put_token(token)
    call.api.guard.forget()
    shown = _document(token)
    shown.token = secret
    return shown


async def remove(call: Call) -> None:
    """Remove a token: it stops working (on other servers within seconds)."""
    name = call.path("name")
    if all(token.name != name for token in await call.store.tokens()):
        raise NotFound(f"there is no token {name!r}", fix="relit token list")
    await call.store.remove_token(name)
    call.api.guard.forget()


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/tokens",
        name="list_tokens",
        summary="All tokens, without their secrets.",
        tag="tokens",
        handle=list_tokens,
        scope="admin",
        answer=documents.Tokens,
    ),
    Operation(
        method="POST",
        path="/v1/tokens",
        name="make_token",
        summary="Make a token. This answer is the only place where it is shown.",
        tag="tokens",
        handle=make,
        scope="admin",
        body=TokenBody,
        answer=documents.Token,
        status=201,
    ),
    Operation(
        method="DELETE",
        path="/v1/tokens/{name}",
        name="remove_token",
        summary="Remove a token: it stops working (on other servers within seconds).",
        tag="tokens",
        handle=remove,
        scope="admin",
        status=204,
    ),
)
