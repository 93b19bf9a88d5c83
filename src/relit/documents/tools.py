"""Calls to tools, as they are told."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from relit.documents.usage import ModelCall
from relit.store.tools import Effect, ToolState


class ToolCall(msgspec.Struct, kw_only=True):
    """One call of an agent to a tool. ``run``: the turn that it belongs to; absent: none was under way. ``effect`` says
    what is done when nobody knows whether it happened. ``failed``: its result is an error. ``expires_at``: a held one
    is not made after that. A ``replayed`` one was given the result of ``source``, an earlier call of its turn."""

    id: str
    agent: str
    run: str | None = None
    number: int = 0
    tool: str
    effect: Effect
    state: ToolState
    arguments: Any | UnsetType = UNSET
    result: Any | UnsetType = UNSET
    failed: bool = False
    why: str = ""
    started_at: int
    ended_at: int | None = None
    expires_at: int | None = None
    decided_by: str = ""
    source: str | None = None


class ToolCalls(msgspec.Struct, kw_only=True):
    """Calls, in the order that was asked for."""

    calls: list[ToolCall]


class TurnCalls(msgspec.Struct, kw_only=True):
    """All calls of a turn."""

    calls: list[ModelCall]
    tools: list[ToolCall]
