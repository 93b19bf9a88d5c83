"""What callers ask for, as the rows to be made. Pure, but for encoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from relit.api import body
from relit.api.body import Moment, Span
from relit.api.parts import Defaults, Parts
from relit.durable.definitions import MESSAGE
from relit.errors import Invalid
from relit.store.values import NewRun

Priority = Annotated[int, Meta(ge=0, le=100, description="0 last … 100 first.")]
DelayField = Annotated[Span | None, Meta(description="Start not before this long from now: `10m`, or seconds.")]
AtField = Annotated[
    Moment | None, Meta(description="Start not before this moment: ISO 8601 with a zone, or ms since 1970.")
]
DedupField = Annotated[
    str | None, Meta(description="The same key again inside `dedup_window` answers the first run.", min_length=1)
]
TimeoutField = Annotated[Span | None, Meta(description="The run's own time limit, from now.")]


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a message and a call have in common."""

    priority: Priority | None = None
    delay: DelayField = None
    at: AtField = None
    dedup: DedupField = None
    dedup_window: Span = "1d"
    timeout: TimeoutField = None
    force: Annotated[bool, Meta(description="Accept it even if no worker was ever seen that could do it.")] = False


class NewMessage(_Request, frozen=True, kw_only=True):
    """A message to an agent."""

    message: Any
    key: Annotated[str | None, Meta(description="Messages with the same key share `key_concurrency`.")] = None
    expire: Annotated[Span | None, Meta(description="Not started by then: recorded as missed, not delivered.")] = None


class NewCall(_Request, frozen=True, kw_only=True):
    """A call of a workflow. ``input`` is short for ``args`` with one value."""

    target: Annotated[str, Meta(min_length=1, description="`agent/workflow`, or a workflow's name if only one has it.")]
    input: Any = msgspec.UNSET
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


def split(target: str) -> tuple[str, str]:
    """Agent and workflow of a target. Raises ``Invalid``."""
    agent, slash, workflow = target.partition("/")
    if not (agent and slash and workflow) or "/" in workflow:
        raise Invalid(f"{target!r} is not a target", fix="write agent/workflow")
    return agent, workflow


def _common(asked: _Request, defaults: Defaults) -> dict[str, Any]:
    return {
        "priority": defaults.priority if asked.priority is None else asked.priority,
        "delay_ms": body.span(asked.delay, "delay") or 0,
        "at": body.moment(asked.at, "at"),
        "timeout_ms": body.span(asked.timeout, "timeout"),
        "dedup_ms": body.span(asked.dedup_window, "dedup_window"),
    }


def arguments(call: NewCall) -> dict[str, Any]:
    """A run's input, as stored. Raises ``Invalid``."""
    if call.input is msgspec.UNSET:
        return body.value({"args": call.args, "kwargs": call.kwargs})  # type: ignore[no-any-return]
    if call.args or call.kwargs:
        raise Invalid("`input` excludes `args` and `kwargs`", fix="write the one value into `args`")
    return {"args": [body.value(call.input)], "kwargs": {}}


async def call(parts: Parts, asked: NewCall, target: str, key: str | None) -> NewRun:
    """The run that a call makes."""
    agent, workflow = split(target)
    return NewRun(
        id=parts.ids(),
        agent=agent,
        workflow=workflow,
        input=await parts.payloads.encode(arguments(asked)),
        kind="message" if workflow == MESSAGE else "call",
        mailbox=agent if workflow == MESSAGE else None,
        dedup=asked.dedup or key,
        **_common(asked, _defaults(parts.options.agents, agent)),
    )


async def message(parts: Parts, agent: str, asked: NewMessage, key: str | None) -> NewRun:
    """The run that a message makes."""
    defaults = _defaults(parts.options.agents, agent)
    expire = body.span(asked.expire, "expire")
    return NewRun(
        id=parts.ids(),
        agent=agent,
        workflow=MESSAGE,
        input=await parts.payloads.encode({"args": [body.value(asked.message)], "kwargs": {}}),
        kind="message",
        mailbox=agent,
        key=asked.key,
        expire_ms=defaults.expire_ms if expire is None else expire,
        dedup=asked.dedup or key,
        **_common(asked, defaults),
    )


def _defaults(agents: Mapping[str, Defaults], agent: str) -> Defaults:
    return agents.get(agent) or Defaults()
