"""OpenAI responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from relit.testing.llm.ask import Ask, Refused, Turn, items, texts, words
from relit.testing.llm.openai import CREATED, error
from relit.testing.llm.pieces import argument_pieces, input_tokens, named_event, output_tokens, text_pieces
from relit.testing.llm.script import Answer, ToolCall

__all__ = ["Memory", "error", "events", "protocol", "read", "whole"]

protocol: Literal["responses"] = "responses"


def read(body: dict[str, Any]) -> Ask:
    """The request in ``body``. Raises ``Refused``."""
    given = body.get("input")
    if not isinstance(given, str | list):
        raise Refused(400, "Missing required parameter: 'input'.", "missing_required_parameter")
    system = [Turn("system", words(body["instructions"]))] if body.get("instructions") else []
    said = [Turn("user", given)] if isinstance(given, str) else [turn for item in items(given) for turn in _turns(item)]
    offered = [tool.get("name", tool.get("type")) for tool in items(body.get("tools"))]
    return Ask(protocol, body, (*system, *said), texts(offered))


def _turns(item: dict[str, Any]) -> Iterator[Turn]:
    """What an item says, if it says anything: reasoning and references do not."""
    kind = str(item.get("type", "message"))
    named = texts([item.get("call_id")])
    if kind.endswith("_call_output"):
        yield Turn("tool", words(item.get("output")), (), named)
    elif kind.endswith("_call"):
        yield Turn("assistant", "", named)
    elif kind == "message":
        yield _message(item)


def _message(item: dict[str, Any]) -> Turn:
    text = words(item.get("content"))
    match item.get("role"):
        case "user":
            return Turn("user", text)
        case "assistant":
            return Turn("assistant", text)
        case "system" | "developer":
            return Turn("system", text)
        case role:
            raise Refused(400, f"Invalid value: {role!r}.", "invalid_value")


class Memory:
    """The conversations that ``previous_response_id`` goes on with."""

    def __init__(self) -> None:
        self._turns: dict[str, tuple[Turn, ...]] = {}

    def recall(self, ask: Ask) -> Ask:
        """``ask`` with what went before it. Raises ``Refused``."""
        named = ask.body.get("previous_response_id")
        if named is None:
            return ask
        if named not in self._turns:
            raise Refused(400, f"Previous response with id '{named}' not found.", "previous_response_not_found")
        return msgspec.structs.replace(ask, turns=self._turns[named] + ask.turns)

    def keep(self, no: int, ask: Ask, answer: Answer) -> None:
        """Remember that ``ask`` had this answer, unless it asked to forget."""
        if ask.body.get("store") is not False:
            calls = tuple(_call_id(no, place) for place in range(len(answer.calls)))
            self._turns[_response_id(no)] = (*ask.turns, Turn("assistant", answer.text, calls))


def whole(no: int, ask: Ask, answer: Answer) -> dict[str, Any]:
    """The answer in one object."""
    return _response(no, ask, "completed", _output(no, answer), _usage(ask, answer))


def events(no: int, ask: Ask, answer: Answer) -> list[bytes]:
    """The answer as a stream."""
    begun = _response(no, ask, "in_progress", [], None)
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(_output(no, answer)):
        told += _message_events(index, item) if item["type"] == "message" else _call_events(index, item)
    told.append({"type": "response.completed", "response": whole(no, ask, answer)})
    return [named_event({**event, "sequence_number": place}) for place, event in enumerate(told)]


def _message_events(index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    part = item["content"][0]
    text = part["text"]
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    empty = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": empty}
    yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
    for piece in text_pieces(text):
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": part}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _call_events(index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    text = item["arguments"]
    at = {"item_id": item["id"], "output_index": index}
    empty = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": index, "item": empty}
    for piece in argument_pieces(ToolCall(item["name"], text)):
        yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **at, "name": item["name"], "arguments": text}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _output(no: int, answer: Answer) -> list[dict[str, Any]]:
    said = [_said(no, answer.text)] if answer.text else []
    return [*said, *(_called(no, place, call) for place, call in enumerate(answer.calls))]


def _said(no: int, text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": f"msg_{no:06}", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def _called(no: int, place: int, call: ToolCall) -> dict[str, Any]:
    named = {"call_id": _call_id(no, place), "name": call.name, "arguments": call.text}
    return {"id": f"fc_{no:06}_{place}", "type": "function_call", "status": "completed", **named}


def _call_id(no: int, place: int) -> str:
    return f"call_{no:06}_{place}"


def _response_id(no: int) -> str:
    return f"resp_{no:06}"


_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
}


def _response(
    no: int, ask: Ask, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None
) -> dict[str, Any]:
    own = {
        "id": _response_id(no),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": ask.model,
        "output": output,
        "usage": usage,
    }
    return {**_ECHOED, **{name: ask.body[name] for name in _ECHOED if name in ask.body}, **own}


def _usage(ask: Ask, answer: Answer) -> dict[str, Any]:
    asked, given = input_tokens(ask, answer), output_tokens(answer)
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + given,
    }
