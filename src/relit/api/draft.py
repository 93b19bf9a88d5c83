"""What callers ask for, as the rows to be made. Pure, but for encoding."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from relit.api import body
from relit.api.body import Moment, Span
from relit.api.parts import Defaults, Parts
from relit.errors import Invalid
from relit.store.values import NewRun

Priority = Annotated[int, Meta(ge=0, le=100, description="0 last … 100 first.")]
Delay = Annotated[Span, Meta(description="Start not before this long from now: `10m`, or seconds.")]
At = Annotated[Moment, Meta(description="Start not before this moment: ISO 8601 with a zone, or ms since 1970.")]
Dedup = Annotated[
    str, Meta(description="The same key again inside `dedup_window` answers the first run.", min_length=1)
]
Timeout = Annotated[Span, Meta(description="The run's own time limit, from now.")]
Expire = Annotated[Span, Meta(description="Not started by then: recorded as missed, not delivered.")]
Key = Annotated[str, Meta(description="Messages with the same key share `key_concurrency`.")]


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a message and a call have in common."""

    priority: Priority | None = None
    delay: Delay | None = None
    at: At | None = None
    dedup: Dedup | None = None
    dedup_window: Span = "1d"
    timeout: Timeout | None = None
    force: Annotated[bool, Meta(description="Accept it even if no worker was ever seen that could do it.")] = False


class NewMessage(_Request, frozen=True, kw_only=True):
    """A message to an agent."""

    message: Any
    key: Key | None = None
    expire: Expire | None = None


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run's input. ``input`` is short for ``args`` with one value."""

    input: Any | UnsetType = UNSET
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


class NewCall(_Request, frozen=True, kw_only=True):
    """A call of a workflow. ``input`` is short for ``args`` with one value."""

    input: Any | UnsetType = UNSET
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None

    target: Annotated[
        str,
        Meta(min_length=1, description="`agent/workflow`; an agent's name; a workflow's name if only one has it."),
    ]


def _length(value: Span | None, name: str) -> timedelta | None:
    ms = body.span(value, name)
    return None if ms is None else timedelta(milliseconds=ms)


def _common(asked: _Request, defaults: Defaults, key: str | None) -> dict[str, Any]:
    return {
        "priority": defaults.priority if asked.priority is None else asked.priority,
        "delay": _length(asked.delay, "delay"),
        "at": body.moment(asked.at, "at"),
        "timeout": _length(asked.timeout, "timeout"),
        "dedup": asked.dedup or key,
        "dedup_window": _length(asked.dedup_window, "dedup_window"),
    }


def arguments(asked: NewCall | Arguments) -> tuple[list[Any], dict[str, Any]] | None:
    """Positional and named arguments; None when none were given. Raises ``Invalid``."""
    if asked.input is UNSET:
        given = asked.args is not None or asked.kwargs is not None
        return (body.value(asked.args or []), body.value(asked.kwargs or {})) if given else None
    if asked.args or asked.kwargs:
        raise Invalid("`input` excludes `args` and `kwargs`", fix="write the one value into `args`")
    return [body.value(asked.input)], {}


async def call(parts: Parts, asked: NewCall, target: str, key: str | None) -> NewRun:
    """The run that a call makes."""
    args, kwargs = arguments(asked) or ([], {})
    options = _common(asked, _defaults(parts, target), key)
    return await parts.engine.make(target, args, kwargs, **options)


async def message(parts: Parts, agent: str, asked: NewMessage, key: str | None) -> NewRun:
    """The run that a message makes."""
    defaults = _defaults(parts, agent)
    expire = _length(asked.expire, "expire")
    if expire is None and defaults.expire_ms is not None:
        expire = timedelta(milliseconds=defaults.expire_ms)
    options = _common(asked, defaults, key)
    return await parts.engine.make(agent, [body.value(asked.message)], key=asked.key, expire=expire, **options)


def _defaults(parts: Parts, target: str) -> Defaults:
    return parts.options.agents.get(target.partition("/")[0]) or Defaults()
