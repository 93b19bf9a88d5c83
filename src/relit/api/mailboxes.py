"""Mailboxes: look, limit, pause."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from relit import documents
from relit.api.operation import Call, Operation
from relit.api.render import mailbox
from relit.errors import NotFound
from relit.store.values import Mailbox, MailboxStats

Count = Annotated[int, Meta(ge=1)]


class MailboxBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New limits: what is absent stays, ``null`` takes a limit away."""

    concurrency: Count | UnsetType | None = UNSET
    key_concurrency: Count | UnsetType | None = UNSET
    depth: Count | UnsetType | None = UNSET
    rate: Annotated[float, Meta(gt=0)] | UnsetType | None = UNSET
    burst: Count | UnsetType = UNSET


async def _stats(call: Call, name: str) -> MailboxStats | None:
    return next((each for each in await call.store.mailboxes() if each.mailbox.name == name), None)


async def _show(call: Call, name: str) -> documents.Mailbox:
    stats = await _stats(call, name)
    if stats is None:
        raise NotFound(f"there is no mailbox {name!r}", fix="relit ps shows the agents; a first message makes one")
    return mailbox(stats)


async def list_mailboxes(call: Call) -> documents.Mailboxes:
    """All mailboxes and how full they are."""
    return documents.Mailboxes(mailboxes=[mailbox(stats) for stats in await call.store.mailboxes()])


async def get(call: Call) -> documents.Mailbox:
    """A mailbox."""
    return await _show(call, call.path("name"))


async def configure(call: Call) -> documents.Mailbox:
    """Change limits; makes the mailbox if there is none."""
    name = call.path("name")
    stats = await _stats(call, name)
    current = Mailbox(name=name) if stats is None else stats.mailbox
    asked = {key: value for key, value in msgspec.structs.asdict(call.body).items() if value is not UNSET}
    await call.store.configure_mailbox(msgspec.structs.replace(current, **asked))
    return await _show(call, name)


async def pause(call: Call) -> documents.Mailbox:
    """Start no more of its messages; they are still accepted."""
    await call.store.pause_mailbox(call.path("name"), True)
    return await _show(call, call.path("name"))


async def resume(call: Call) -> documents.Mailbox:
    """Go on with its messages."""
    await call.store.pause_mailbox(call.path("name"), False)
    return await _show(call, call.path("name"))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/mailboxes",
        name="list_mailboxes",
        summary="All mailboxes and how full they are.",
        tag="mailboxes",
        handle=list_mailboxes,
        answer=documents.Mailboxes,
    ),
    Operation(
        method="GET",
        path="/v1/mailboxes/{name}",
        name="get_mailbox",
        summary="A mailbox.",
        tag="mailboxes",
        handle=get,
        answer=documents.Mailbox,
    ),
    Operation(
        method="PATCH",
        path="/v1/mailboxes/{name}",
        name="configure_mailbox",
        summary="Change limits; makes the mailbox if there is none.",
        tag="mailboxes",
        handle=configure,
        scope="write",
        body=MailboxBody,
        answer=documents.Mailbox,
    ),
    Operation(
        method="POST",
        path="/v1/mailboxes/{name}/pause",
        name="pause_mailbox",
        summary="Start no more of its messages; they are still accepted.",
        tag="mailboxes",
        handle=pause,
        scope="write",
        answer=documents.Mailbox,
    ),
    Operation(
        method="POST",
        path="/v1/mailboxes/{name}/resume",
        name="resume_mailbox",
        summary="Go on with its messages.",
        tag="mailboxes",
        handle=resume,
        scope="write",
        answer=documents.Mailbox,
    ),
)
