"""Which calls to tools stand in a prompt, with their results. Pure.

An agent that goes on after a crash has what it did in its prompt; one that asks for the same again means it. So calls
in the prompt are counted: a recorded result answers only a call that does not stand there yet.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from relit.gateway.reading import read

Counts = Counter[tuple[str, str]]  # by the tool's name in the agent, and what the arguments hash to
_BETWEEN = "_./-:"  # what agents put between a server's name and a tool's


def hash_of(arguments: Any) -> str:
    """Equal for equal arguments."""
    return hashlib.blake2b(msgspec.json.encode(arguments, order="sorted"), digest_size=16).hexdigest()


def done(body: bytes) -> Counts | None:
    """Of a request to a model. ``None``: it offers no tools, so that it says nothing of them."""
    tree = read(body)
    if not isinstance(tree, dict) or not tree.get("tools"):
        return None
    turns = tree.get("messages", tree.get("input"))
    if not isinstance(turns, list):
        return Counter()
    asked: dict[str, tuple[str, Any]] = {}
    found: Counts = Counter()
    for turn in turns:
        if isinstance(turn, dict):
            asked |= {id: (name, arguments) for id, name, arguments in _asked(turn)}
            for id in _answered(turn):
                found.update(_meant(*asked.pop(id, ("", None))))
    return found


def count(counts: Counts, tool: str, hash: str) -> int:
    """How often that call stands there, whatever the agent puts before the tool's name."""
    return sum(number for (name, each), number in counts.items() if each == hash and _is(name, tool))


def _is(name: str, tool: str) -> bool:
    return name == tool or (name.endswith(tool) and name[-len(tool) - 1] in _BETWEEN)


def _asked(turn: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(id, name, arguments) of the calls in a message, or item."""
    for each in _tables(turn.get("tool_calls")):
        function = each.get("function")
        if isinstance(function, dict):
            yield str(each.get("id")), str(function.get("name")), _parsed(function.get("arguments"))
    for each in _tables(turn.get("content")):
        if each.get("type") == "tool_use":
            yield str(each.get("id")), str(each.get("name")), each.get("input")
    if turn.get("type") == "function_call":
        yield str(turn.get("call_id")), str(turn.get("name")), _parsed(turn.get("arguments"))


def _answered(turn: dict[str, Any]) -> Iterator[str]:
    """The ids of calls whose results a message, or item, holds."""
    if turn.get("role") == "tool":
        yield str(turn.get("tool_call_id"))
    if turn.get("type") == "function_call_output":
        yield str(turn.get("call_id"))
    for each in _tables(turn.get("content")):
        if each.get("type") == "tool_result":
            yield str(each.get("tool_use_id"))


def _meant(name: str, arguments: Any) -> list[tuple[str, str]]:
    """The call itself, and those that it may be a wrapper of: some agents call tools by a tool."""
    if not isinstance(arguments, Mapping):
        return []
    found = [(name, hash_of(arguments))]
    names = [each for each in arguments.values() if isinstance(each, str)]
    inner = [each for each in (_parsed(value) for value in arguments.values()) if isinstance(each, Mapping)]
    return found + [(each, hash_of(table)) for each in names for table in inner]


def _tables(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return read(value.encode()) if value.strip() else {}
