"""What a tool is, and the seam to whoever carries its calls out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from relit.store.tools import Effect, ToolCall

Policy = Literal["allow", "ask", "deny"]


@dataclass(frozen=True)
class Tool:
    """``schema``: JSON Schema of its arguments, an object. ``effect``: what is done when nobody knows whether a call
    happened. ``same``: arguments that tell what a call means: two that are equal in these mean the same. ``timeout``:
    seconds of one attempt. ``most``: bytes of a result that an agent is given at once.
    ``reads``: tells calls that change nothing. ``key_ms``: so long after it was asked for a call's key is certainly
    known to whoever carries it out."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    effect: Effect = "ask"
    policy: Policy = "allow"
    same: tuple[str, ...] = ()
    timeout: float = 30.0
    most: int = 64 << 10
    reads: Callable[[Mapping[str, Any]], bool] | None = None
    key_ms: int = 86_400_000

    def effect_of(self, arguments: Mapping[str, Any]) -> Effect:
        """Of a call: some only read, as ``reads`` says."""
        return "read" if self.reads is not None and self.reads(arguments) else self.effect


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call, as MCP says it. ``failed``: it is an error, and that is certain."""

    content: list[dict[str, Any]]
    failed: bool = False


def text(words: str, *, failed: bool = False) -> Outcome:
    """Of plain words."""
    return Outcome(content=[{"type": "text", "text": words}], failed=failed)


def schema(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    """JSON Schema of arguments: these and no others."""
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


class NotSent(Exception):
    """It certainly did not happen. ``retry``: another attempt may help, after ``after`` seconds."""

    def __init__(self, why: str, *, retry: bool = False, after: float | None = None) -> None:
        super().__init__(why)
        self.retry = retry
        self.after = after


class Unsure(Exception):
    """Nobody knows whether it happened."""


class Source(Protocol):
    """Some tools, and how their calls are carried out."""

    @property
    def tools(self) -> Sequence[Tool]:
        """All of them."""
        ...

    async def send(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        """Carry it out, once. NotSent, Unsure; anything else counts as Unsure."""
        ...

    async def stop(self) -> None:
        """Let go of connections, and the like."""
        ...

    async def clear(self, call: ToolCall) -> Outcome | None:
        """The gateway that made it died: end what may still go on of it on this machine. Answers what came of it, where
        that can be said; ``None``: its effect decides."""
        ...

    async def look(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome | None:
        """Of a tool whose effect is ``lookup``: what came of it; ``None``: it did not happen (yet). May raise."""
        ...
