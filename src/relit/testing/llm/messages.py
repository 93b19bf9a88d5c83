"""Anthropic messages, and the counting of their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from relit.testing.llm.anthropic import error
from relit.testing.llm.ask import Ask, Refused, Turn, items, texts, words
from relit.testing.llm.pieces import argument_pieces, input_tokens, named_event, output_tokens, text_pieces
from relit.testing.llm.script import Answer, ToolCall

__all__ = ["error", "events", "protocol", "read", "whole"]

protocol: Literal["messages"] = "messages"


def read(body: dict[str, Any]) -> Ask:
    """The request in ``body``. Raises ``Refused``."""
    for name, kind in (("max_tokens", int), ("messages", list)):
        if not isinstance(body.get(name), kind):
            raise Refused(400, f"{name}: Field required")
    return conversation(protocol, body)


def conversation(named: Literal["messages", "tokens"], body: dict[str, Any]) -> Ask:
    """What ``body`` says and offers."""
    system = [Turn("system", words(body["system"]))] if "system" in body else []
    turns = (*system, *(_turn(message) for message in items(body.get("messages"))))
    return Ask(named, body, turns, texts([tool.get("name") for tool in items(body.get("tools"))]))


def _turn(message: dict[str, Any]) -> Turn:
    role, content = message.get("role"), message.get("content")
    blocks = items(content)
    if role == "assistant":
        return Turn("assistant", words(content), texts([each.get("id") for each in _of(blocks, "tool_use")]))
    if role == "system":
        return Turn("system", words(content))
    if role != "user":
        raise Refused(400, f"messages: Unexpected role {role!r}")
    results = _of(blocks, "tool_result")
    if not results:
        return Turn("user", words(content))
    said = [*(words(each.get("content")) for each in results), words(content)]
    return Turn("tool", "\n".join(filter(None, said)), (), texts([each.get("tool_use_id") for each in results]))


def _of(blocks: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [block for block in blocks if block.get("type") == kind]


def whole(no: int, ask: Ask, answer: Answer) -> dict[str, Any]:
    """The answer in one object."""
    said = [{"type": "text", "text": answer.text, "citations": None}] if answer.text else []
    used = [{**_tool_use(no, place, call), "input": _input(call)} for place, call in enumerate(answer.calls)]
    return {
        **_head(no, ask, input_tokens(ask, answer), output_tokens(answer)),
        "content": [*said, *used],
        "stop_reason": _reason(answer),
        "stop_sequence": None,
    }


def _input(call: ToolCall) -> Any:
    """The arguments. Text that is no JSON stays text, which no client takes for arguments."""
    try:
        return msgspec.json.decode(call.text)
    except msgspec.DecodeError:
        return call.text


def events(no: int, ask: Ask, answer: Answer) -> list[bytes]:
    """The answer as a stream."""
    head = {**_head(no, ask, input_tokens(ask, answer), 1), "content": [], "stop_reason": None, "stop_sequence": None}
    ending = {"delta": {"stop_reason": _reason(answer), "stop_sequence": None}}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": head},
        {"type": "ping"},
        *_blocks(no, answer),
        {"type": "message_delta", **ending, "usage": {"output_tokens": output_tokens(answer)}},
        {"type": "message_stop"},
    ]
    return [named_event(event) for event in told]


def _blocks(no: int, answer: Answer) -> Iterator[dict[str, Any]]:
    first = 1 if answer.text else 0
    if answer.text:
        pieces = [{"type": "text_delta", "text": piece} for piece in text_pieces(answer.text)]
        yield from _block(0, {"type": "text", "text": "", "citations": None}, pieces)
    for place, call in enumerate(answer.calls):
        parts = ["", *argument_pieces(call)]
        pieces = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        yield from _block(first + place, {**_tool_use(no, place, call), "input": {}}, pieces)


def _block(index: int, begun: dict[str, Any], deltas: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    yield {"type": "content_block_start", "index": index, "content_block": begun}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _tool_use(no: int, place: int, call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{no:06}_{place}", "name": call.name}


def _head(no: int, ask: Ask, asked: int, given: int) -> dict[str, Any]:
    usage = {
        "input_tokens": asked,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": given,
        "service_tier": "standard",
    }
    return {"id": f"msg_{no:06}", "type": "message", "role": "assistant", "model": ask.model, "usage": usage}


def _reason(answer: Answer) -> str:
    return "tool_use" if answer.calls else "end_turn"
