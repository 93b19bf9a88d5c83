"""When a call is one that was made before. Pure.

A turn that is delivered again makes its calls again: a model's answer that is on record need not be bought twice. But
the same question is not always the same bytes: prompts carry the time, ids of sessions, ids of tool calls. What varies
so is masked, by patterns that an agent's kind names (``masks``), and ids of tool calls are counted instead of read.
Everything else must be equal. A near miss is a miss, and is told (``turn.diverged``), with the parts that differ.

A **lane** tells the conversations of one turn apart: a title that is thought of in the background must not count as the
point from which on the turn itself went another way. It is what the conversation begins with: instructions, first words
and tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from relit.gateway.outline import digest, whole_of
from relit.gateway.reading import read

VOLATILE = frozenset({"user", "metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store"})
_CALLS = ("function_call", "custom_tool_call")
_ITEMS = frozenset({*_CALLS, *(f"{each}_output" for each in _CALLS), "reasoning"})
_BEGINS = ("system", "instructions", "tools", "model")


@dataclass(frozen=True)
class Mask:
    """What matches ``pattern`` counts as ``word``."""

    pattern: re.Pattern[str]
    word: str = "*"


@dataclass(frozen=True)
class Match:
    """``key``: equal for calls that are the same; ``lane``: for those of one conversation; ``outline``: what tells one
    that is nearly the same from it."""

    key: str
    lane: str
    outline: str = ""


def masks(patterns: Iterable[str]) -> list[Mask]:
    """Each pattern counts as another word. ``re.error`` for one that is none."""
    return [Mask(re.compile(each), f"<{number}>") for number, each in enumerate(patterns, 1)]


def match_of(below: str, body: bytes, hidden: Sequence[Mask] = ()) -> Match | None:
    """Of a request to the path ``below``. ``None``: its body is not a table in JSON, or too deep to be read."""
    tree = read(body)
    if not isinstance(tree, dict):
        return None
    try:
        whole = _numbered({key: each for key, each in tree.items() if key not in VOLATILE})
        whole = _masked(whole, hidden) if hidden else whole
        begins = {key: whole[key] for key in _BEGINS if key in whole}
        made = whole_of(whole)
        return Match(made.key(below), digest([below, begins, _first(whole)]), made.outline())
    except RecursionError:
        return None


def _masked(value: Any, hidden: Sequence[Mask]) -> Any:
    if isinstance(value, str):
        for mask in hidden:
            value = mask.pattern.sub(mask.word, value)
        return value
    if isinstance(value, dict):
        return {key: _masked(each, hidden) for key, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, hidden) for each in value]
    return value


def _numbered(tree: dict[str, Any]) -> dict[str, Any]:
    """With ids of tool calls by when they first came, where protocols have them and nowhere else: whoever makes other
    ones up each time makes them up in the same order."""
    ids: dict[str, str] = {}
    listed = {key: tree[key] for key in ("messages", "input") if isinstance(tree.get(key), list)}
    return {**tree, **{key: [_turn(each, ids) for each in turns] for key, turns in listed.items()}}


def _turn(turn: Any, ids: dict[str, str]) -> Any:
    """A message, or an item of OpenAI's responses."""
    if not isinstance(turn, dict):
        return turn
    made = _with(turn, ids, "tool_call_id", *(("id", "call_id") if _is_item(turn) else ()))
    for key in ("tool_calls", "content"):
        if isinstance(listed := made.get(key), list):
            made[key] = [_part(each, ids, key) for each in listed]
    return made


def _is_item(turn: dict[str, Any]) -> bool:
    kind = turn.get("type")
    return isinstance(kind, str) and kind in _ITEMS


def _part(part: Any, ids: dict[str, str], inside: str) -> Any:
    if not isinstance(part, dict):
        return part
    if inside == "tool_calls" or part.get("type") == "tool_use":
        return _with(part, ids, "id")
    return _with(part, ids, "tool_use_id") if part.get("type") == "tool_result" else part


def _with(table: dict[str, Any], ids: dict[str, str], *names: str) -> dict[str, Any]:
    found = {name: table[name] for name in names if isinstance(table.get(name), str)}
    return {**table, **{name: ids.setdefault(id, f"id-{len(ids) + 1}") for name, id in found.items()}}


def _first(whole: dict[str, Any]) -> Any:
    """The first words of a conversation; the system's count as its beginning, too."""
    listed = whole.get("messages", whole.get("input"))
    if not isinstance(listed, list):
        return listed
    begin: list[Any] = []
    for each in listed:
        begin.append(each)
        if isinstance(each, dict) and each.get("role") == "user":
            break
    return begin
