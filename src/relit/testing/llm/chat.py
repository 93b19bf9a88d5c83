"""OpenAI chat completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from relit.testing.llm.ask import Ask, Refused, Turn, items, texts, words
from relit.testing.llm.openai import CREATED, error
from relit.testing.llm.pieces import argument_pieces, data_event, input_tokens, output_tokens, text_pieces
from relit.testing.llm.script import Answer

__all__ = ["error", "events", "protocol", "read", "whole"]

protocol: Literal["chat"] = "chat"
_ROLES: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def read(body: dict[str, Any]) -> Ask:
    """The request in ``body``. Raises ``Refused``."""
    if not isinstance(body.get("messages"), list):
        raise Refused(400, "Missing required parameter: 'messages'.", "missing_required_parameter")
    turns = tuple(_turn(message) for message in items(body["messages"]))
    tools = [tool.get(str(tool.get("type")), {}) for tool in items(body.get("tools"))]  # {"type": "function", …}
    return Ask(protocol, body, turns, texts([tool.get("name") for tool in items(tools)]))


def _turn(message: dict[str, Any]) -> Turn:
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise Refused(400, f"Invalid value: {message.get('role')!r}.", "invalid_value")
    calls = texts([call.get("id") for call in items(message.get("tool_calls"))])
    results = texts([message.get("tool_call_id")]) if role == "tool" else ()
    return Turn(role, words(message.get("content")), calls, results)


def whole(no: int, ask: Ask, answer: Answer) -> dict[str, Any]:
    """The answer in one object."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.calls:
        message["tool_calls"] = [
            {"id": _call_id(no, place), "type": "function", "function": {"name": call.name, "arguments": call.text}}
            for place, call in enumerate(answer.calls)
        ]
    else:
        message["content"] = answer.text
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
    return {**_head(no, ask, "chat.completion"), "choices": [choice], "usage": _usage(ask, answer)}


def events(no: int, ask: Ask, answer: Answer) -> list[bytes]:
    """The answer as a stream."""
    counted = (ask.body.get("stream_options") or {}).get("include_usage") is True
    head = _head(no, ask, "chat.completion.chunk")
    deltas = [*_deltas(no, answer), {}]
    chunks = [{**head, "choices": [_choice(delta)], **({"usage": None} if counted else {})} for delta in deltas]
    chunks[-1]["choices"][0]["finish_reason"] = _finish(answer)
    if counted:
        chunks.append({**head, "choices": [], "usage": _usage(ask, answer)})
    return [*(data_event(chunk) for chunk in chunks), b"data: [DONE]\n\n"]


def _deltas(no: int, answer: Answer) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if answer.text or not answer.calls else None}
    for piece in text_pieces(answer.text):
        yield {"content": piece}
    for place, call in enumerate(answer.calls):
        begun = {"id": _call_id(no, place), "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield {"tool_calls": [{"index": place, **begun}]}
        for piece in argument_pieces(call):
            yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}


def _choice(delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}


def _head(no: int, ask: Ask, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{no:06}", "object": kind, "created": CREATED, "model": ask.model}


def _call_id(no: int, place: int) -> str:
    return f"call_{no:06}_{place}"


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "stop"


def _usage(ask: Ask, answer: Answer) -> dict[str, int]:
    asked, given = input_tokens(ask, answer), output_tokens(answer)
    return {"prompt_tokens": asked, "completion_tokens": given, "total_tokens": asked + given}
