"""The pieces that an answer is streamed in."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from relit.testing.llm.ask import Ask
from relit.testing.llm.script import Answer, ToolCall

_ARGUMENT_PIECE = 12  # characters


def text_pieces(text: str) -> list[str]:
    """One for each word."""
    return re.findall(r"\s*\S+|\s+$", text)


def argument_pieces(call: ToolCall) -> list[str]:
    """A few characters each, so that none is JSON by itself."""
    text = call.text
    return [text[at : at + _ARGUMENT_PIECE] for at in range(0, len(text), _ARGUMENT_PIECE)]


def input_tokens(ask: Ask, answer: Answer) -> int:
    """As many as the answer says, else about as many as there are."""
    return ask.tokens if answer.prompt_tokens is None else answer.prompt_tokens


def output_tokens(answer: Answer) -> int:
    """One for each piece."""
    return len(text_pieces(answer.text)) + sum(1 + len(argument_pieces(call)) for call in answer.calls)


def data_event(data: dict[str, Any]) -> bytes:
    """A server-sent event without a name."""
    return b"data: %b\n\n" % msgspec.json.encode(data)


def named_event(data: dict[str, Any]) -> bytes:
    """A server-sent event whose name is its data's ``type``."""
    return b"event: %b\n%b" % (data["type"].encode(), data_event(data))
