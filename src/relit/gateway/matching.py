"""When a call is one that was made before. Pure.

A turn that is delivered again makes its calls again: a model's answer that is on record need not be bought twice. But
the same question is not always the same bytes: prompts carry the time, ids of sessions, ids of tool calls. What varies
so is masked, by patterns that an agent's kind names (``masks``), and ids of tool calls are counted instead of read.
Everything else must be equal. A near miss is a miss.

A **lane** tells the conversations of one turn apart: a title that is thought of in the background must not count as the
point from which on the turn itself went another way. It is what the conversation begins with: instructions, first words
and tools.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

VOLATILE = frozenset({"user", "metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store"})
_IDS = frozenset({"id", "tool_call_id", "call_id", "tool_use_id", "item_id"})
_BEGINS = ("system", "instructions", "tools", "model")


@dataclass(frozen=True)
class Mask:
    """What matches ``pattern`` counts as ``word``."""

    pattern: re.Pattern[str]
    word: str = "*"


@dataclass(frozen=True)
class Match:
    """``key``: equal for calls that are the same; ``lane``: for those of one conversation."""

    key: str
    lane: str


def masks(patterns: Iterable[str]) -> list[Mask]:
    """Each pattern counts as another word. ``re.error`` for one that is none."""
    return [Mask(re.compile(each), f"<{number}>") for number, each in enumerate(patterns, 1)]


def match_of(below: str, body: bytes, hidden: Sequence[Mask] = ()) -> Match | None:
    """Of a request to the path ``below``. ``None``: its body is not a table in JSON."""
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not isinstance(tree, dict):
        return None
    kept = {key: value for key, value in tree.items() if key not in VOLATILE}
    ids: dict[str, str] = {}
    whole = _canonical(kept, hidden, ids)
    begins = {key: whole[key] for key in _BEGINS if key in whole}
    return Match(_digest([below, whole]), _digest([below, begins, _first(whole)]))


def _canonical(value: Any, hidden: Sequence[Mask], ids: dict[str, str]) -> Any:
    if isinstance(value, str):
        for mask in hidden:
            value = mask.pattern.sub(mask.word, value)
        return value
    if isinstance(value, Mapping):
        return {
            key: _counted(each, ids) if key in _IDS and isinstance(each, str) else _canonical(each, hidden, ids)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_canonical(each, hidden, ids) for each in value]
    return value


def _counted(id: str, ids: dict[str, str]) -> str:
    """An id by when it first came: whoever makes other ones up each time makes them up in the same order."""
    return ids.setdefault(id, f"id-{len(ids) + 1}")


def _first(whole: Mapping[str, Any]) -> Any:
    """The first words of a conversation; the system's count as its beginning, too."""
    listed = whole.get("messages", whole.get("input"))
    if not isinstance(listed, list):
        return listed
    begin: list[Any] = []
    for each in listed:
        begin.append(each)
        if isinstance(each, Mapping) and each.get("role") == "user":
            break
    return begin


def _digest(value: Any) -> str:
    return hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=16).hexdigest()
