"""What the benchmark's agents ask: instructions, tools, a conversation. Pure."""

from __future__ import annotations

import json
from typing import Any

_RULES = [
    f"Rule {number}: say what you did, on what, and how it went, and keep to what was asked." for number in range(48)
]
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name} something in the house, and tell what came of it. Give paths as they are.",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
                "required": ["path"],
            },
        },
    }
    for name in ("read", "write", "search", "run")
]


def body(messages: list[dict[str, Any]], *, stream: bool = True) -> bytes:
    """A request of some 5 KB and its messages."""
    system = {"role": "system", "content": "You look after a house.\n" + "\n".join(_RULES)}
    document: dict[str, Any] = {
        "model": "default",
        "messages": [system, *messages],
        "tools": _TOOLS,
        "max_tokens": 1000,
    }
    if stream:
        document |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(document).encode()


def question(number: int, count: int) -> bytes:
    """A conversation that has just begun; another one for each pair of numbers."""
    return body([{"role": "user", "content": f"Is everything well in room {number}.{count}?"}])


def plain(number: int, count: int) -> bytes:
    """The same, to be answered as a whole."""
    return body([{"role": "user", "content": f"Is everything well in room {number}.{count}?"}], stream=False)


def turn(calls: int) -> list[bytes]:
    """The calls of one turn: each knows what the one before did, and is a kilobyte longer."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Go through the house."}]
    found = []
    for number in range(calls):
        found.append(body(messages))
        read = {"name": "read", "arguments": json.dumps({"path": f"room-{number}"})}
        call = {"id": f"call-{number}", "type": "function", "function": read}
        messages.append({"role": "assistant", "content": "a word or two ", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call-{number}", "content": f"{number}: well. " * 90})
    return found
