"""What agents ask models, without their makers' sentences: what was equal stays equal, what differed differs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

_PLAIN = frozenset(
    {"role", "type", "name", "model", "id", "tool_call_id", "call_id", "stream", "tool_choice", "protocol"}
)
_VARIES = (r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?)?", r"[0-9a-f]{8}(?:-?[0-9a-f]{4,12})+", r"\d{10,}")


class Redactor:
    """Each line becomes a word for it; one with something in it that may vary keeps that, and has a word for each
    other one. Tools are words, too. ``masks``: of the kind."""

    def __init__(self, masks: Sequence[str]) -> None:
        self._varies = re.compile("|".join(f"(?:{each})" for each in (*masks, *_VARIES)), re.MULTILINE)

    def value(self, value: Any, key: str = "") -> Any:
        """JSON, whole."""
        if isinstance(value, dict):
            return {name: self.value(each, name) for name, each in value.items()}
        if key == "tools" and isinstance(value, list):
            return [_word(json.dumps(each, sort_keys=True)) for each in value]
        if isinstance(value, list):
            return [self.value(each, key) for each in value]
        if isinstance(value, str) and key not in _PLAIN:
            return "\n".join(self._line(each) for each in value.split("\n"))
        return value

    def _line(self, line: str) -> str:
        found = list(self._varies.finditer(line))
        if not found:
            return _word(line)
        made, at = "", 0
        for match in found:
            made += _words(line[at : match.start()]) + match[0]
            at = match.end()
        return made + _words(line[at:])


def _words(text: str) -> str:
    return re.sub(r"[A-Za-z]{2,}", lambda found: _word(found[0]), text)


def _word(text: str) -> str:
    return "w" + hashlib.blake2b(text.encode(), digest_size=4).hexdigest() if text.strip() else text
