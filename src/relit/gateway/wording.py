"""A short text as each protocol says it, in one object or as events. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from relit.gateway.target import Protocol

_PER_TOKEN = 4  # bytes, about


@dataclass(frozen=True)
class Text:
    """What is said: ``text`` by ``model`` at ``at`` (seconds since 1970), as the answer ``id`` to a request of
    ``asked`` bytes. ``counted``: an OpenAI stream tells its usage, too."""

    id: str
    text: str
    model: str
    at: int
    asked: int
    counted: bool = False

    @property
    def given_tokens(self) -> int:
        return 1 + self.asked // _PER_TOKEN

    @property
    def made_tokens(self) -> int:
        return 1 + len(self.text) // _PER_TOKEN


def whole(protocol: Protocol, text: Text) -> bytes:
    """The answer in one piece of JSON."""
    return msgspec.json.encode(_WHOLE[protocol](text))


def events(protocol: Protocol, text: Text) -> bytes:
    """The answer as server-sent events. A count of tokens is never streamed."""
    if protocol == "chat":
        return b"".join(_data(each) for each in _chat_events(text)) + b"data: [DONE]\n\n"
    told = _message_events(text) if protocol == "messages" else _response_events(text)
    return b"".join(b"event: %b\n%b" % (each["type"].encode(), _data(each)) for each in told)


def _data(event: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(event)


# --- OpenAI chat completions ---------------------------------------------------------------------------------------


def _chat(text: Text) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text.text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_chat_head(text, "chat.completion"), "choices": [choice], "usage": _chat_usage(text)}


def _chat_events(text: Text) -> Iterator[dict[str, Any]]:
    head = _chat_head(text, "chat.completion.chunk")
    usage = {"usage": None} if text.counted else {}
    for delta, finish in (({"role": "assistant", "content": ""}, None), ({"content": text.text}, None), ({}, "stop")):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        yield {**head, "choices": [choice], **usage}
    if text.counted:
        yield {**head, "choices": [], "usage": _chat_usage(text)}


def _chat_head(text: Text, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{text.id}", "object": kind, "created": text.at, "model": text.model}


def _chat_usage(text: Text) -> dict[str, Any]:
    given, made = text.given_tokens, text.made_tokens
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


# --- OpenAI responses ----------------------------------------------------------------------------------------------


def _response(text: Text) -> dict[str, Any]:
    given, made = text.given_tokens, text.made_tokens
    usage = {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given + made,
    }
    return {**_response_head(text, "completed"), "output": [_output(text)], "usage": usage}


def _response_events(text: Text) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(_response_story(text)):
        yield {**event, "sequence_number": number}


def _response_story(text: Text) -> Iterator[dict[str, Any]]:
    begun = {**_response_head(text, "in_progress"), "output": [], "usage": None}
    item = _output(text)
    part = item["content"][0]
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    empty = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": 0, "item": empty}
    yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
    yield {"type": "response.output_text.delta", **at, "delta": text.text, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": text.text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": part}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": _response(text)}


def _output(text: Text) -> dict[str, Any]:
    part = {"type": "output_text", "text": text.text, "annotations": [], "logprobs": []}
    return {"id": f"msg_{text.id}", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def _response_head(text: Text, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{text.id}",
        "object": "response",
        "created_at": text.at,
        "status": status,
        "model": text.model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
    }


# --- Anthropic messages --------------------------------------------------------------------------------------------


def _message(text: Text) -> dict[str, Any]:
    content = [{"type": "text", "text": text.text}]
    return {**_message_head(text, text.made_tokens), "content": content, "stop_reason": "end_turn"}


def _message_events(text: Text) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": _message_head(text, 1)}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text.text}}
    yield {"type": "content_block_stop", "index": 0}
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": text.made_tokens}}
    yield {"type": "message_stop"}


def _message_head(text: Text, made: int) -> dict[str, Any]:
    usage = {
        "input_tokens": text.given_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": made,
        "service_tier": "standard",
    }
    head = {"id": f"msg_{text.id}", "type": "message", "role": "assistant", "model": text.model, "content": []}
    return {**head, "stop_reason": None, "stop_sequence": None, "usage": usage}


def _tokens(text: Text) -> dict[str, Any]:
    return {"input_tokens": text.given_tokens}


_WHOLE = {"chat": _chat, "responses": _response, "messages": _message, "tokens": _tokens}
