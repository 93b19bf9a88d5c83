"""What a request asks, the same whatever protocol it came by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import Any, Literal

import msgspec

Protocol = Literal["chat", "responses", "messages", "models", "embeddings", "tokens", "other"]
"""``chat`` and ``responses`` are OpenAI's, ``messages`` is Anthropic's, ``tokens`` its counting of them."""

MODEL_CALLS: frozenset[Protocol] = frozenset({"chat", "responses", "messages"})


class Refused(Exception):
    """What every provider refuses, with the status and code that it says so by."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


class Turn(msgspec.Struct, frozen=True):
    """One message. ``calls``: the ids of the tool calls in it; ``results``: of those that it answers.

    ``tool`` is a message with tool results in it, whatever else it holds.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


class Ask(msgspec.Struct, frozen=True):
    """A request. ``body`` is the whole of it; ``tools`` are the names offered."""

    protocol: Protocol
    body: dict[str, Any] = {}
    turns: tuple[Turn, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.body.get("model", "scripted"))

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted as events."""
        return self.body.get("stream") is True

    @property
    def user(self) -> str:
        """The user's last words."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def after_tool(self) -> bool:
        """Whether the last message is a tool's result."""
        return bool(self.turns) and self.turns[-1].role == "tool"

    @property
    def result(self) -> str:
        """The text of the tool results that the conversation ends with."""
        last = list(takewhile(lambda turn: turn.role == "tool", reversed(self.turns)))
        return "\n".join(turn.text for turn in reversed(last))

    @property
    def nth(self) -> int:
        """Which call of this conversation it is, from 1. Read from its history: a call made again has its number."""
        return 1 + _answers(self.turns)

    @property
    def step(self) -> int:
        """As ``nth``, counted from the user's last words: 1 is the answer to them, 2 what follows its tools."""
        since = takewhile(lambda turn: turn.role != "user", reversed(self.turns))
        return 1 + _answers(list(since))

    @property
    def tokens(self) -> int:
        """About as many as a provider would count."""
        return 1 + len(msgspec.json.encode(self.body)) // 4


def _answers(turns: Sequence[Turn]) -> int:
    """How often the model has spoken: messages of it that follow each other are one answer."""
    return sum(1 for role, _ in groupby(turns, key=lambda turn: turn.role) if role == "assistant")


def words(content: Any) -> str:
    """The text in a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in items(content) if isinstance(part.get("text"), str))


def items(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; of anything else none."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def texts(value: Sequence[Any]) -> tuple[str, ...]:
    """The strings among these."""
    return tuple(each for each in value if isinstance(each, str))
