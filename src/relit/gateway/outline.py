"""What a call asks, part by part: enough to tell in which of them two calls differ, and nothing of what they say. Pure.

A part is a key of the request, and of its conversation each turn. Of a long conversation the last turns are told apart,
and those before them count as one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

_CONVERSATIONS = ("messages", "input")
_LAST = 32  # turns
_PARTS, _NAME = 32, 40  # how many, and the length of a name: what is beyond is left out
_SHORT = 8  # of a digest's digits
_JSON = msgspec.json.Encoder(order="sorted")
_TELLING = ("system", "instructions", "tools")


class Outline(msgspec.Struct, frozen=True):
    """Digests: ``parts`` by name; ``turns`` of the conversation called ``name`` from number ``begin`` on, and
    ``before`` of all that were there before."""

    parts: dict[str, str]
    name: str = ""
    turns: list[str] = []
    begin: int = 0
    before: str = ""

    @property
    def end(self) -> int:
        """How many turns there are."""
        return self.begin + len(self.turns)


@dataclass(frozen=True)
class Whole:
    """Of one request, whole digests of all that is in it."""

    parts: dict[str, str]
    name: str
    turns: list[str]

    def key(self, below: str) -> str:
        """The same for all that ask the same of the path ``below``."""
        return digest([below, self.parts, self.name, self.turns])

    def outline(self) -> str:
        """Short enough to be kept."""
        begin = max(0, len(self.turns) - _LAST)
        names = sorted(each for each in self.parts if len(each) <= _NAME)[:_PARTS]
        made = Outline(
            parts={each: self.parts[each][:_SHORT] for each in names},
            name=self.name,
            turns=[each[:_SHORT] for each in self.turns[begin:]],
            begin=begin,
            before=digest(self.turns[:begin])[:_SHORT] if begin else "",
        )
        return msgspec.json.encode(made).decode()


def whole_of(request: dict[str, Any]) -> Whole:
    """RecursionError: it is too deep."""
    name = next((each for each in _CONVERSATIONS if isinstance(request.get(each), list)), "")
    parts = {key: digest(value) for key, value in request.items() if not name or key != name}
    return Whole(parts, name, [digest(each) for each in request[name]] if name else [])


def differs(before: str, now: str) -> str:
    """In which parts one call differs from another, as ``system, messages[3]``; empty: that is not known."""
    was, here = _read(before), _read(now)
    if was is None or here is None:
        return ""
    names = {each for each in (*was.parts, *here.parts) if was.parts.get(each) != here.parts.get(each)}
    return ", ".join(dict.fromkeys(filter(None, [*sorted(names), _turn(was, here)])))


def is_near(before: str, now: str) -> bool:
    """Whether they have something in common that most calls have not: they may be meant to be the same."""
    was, here = _read(before), _read(now)
    if was is None or here is None:
        return False
    same = {each for each in _TELLING if was.parts.get(each) == here.parts.get(each)}
    return not {*was.turns}.isdisjoint(here.turns) or not {here.parts.get(each) for each in same} <= _NOTHING


def digest(value: Any) -> str:
    """Of anything that JSON can say."""
    return hashlib.blake2b(_JSON.encode(value), digest_size=16).hexdigest()


_EMPTY: tuple[Any, ...] = (None, "", [], {})
_NOTHING = {None, *(digest(each)[:_SHORT] for each in _EMPTY)}


def _turn(was: Outline, here: Outline) -> str:
    """The first turn of the conversation that is another."""
    name = here.name or was.name
    if was.name != here.name:
        return name
    first, last = max(was.begin, here.begin), min(was.end, here.end)
    for number in range(first, last):
        if was.turns[number - was.begin] != here.turns[number - here.begin]:
            return f"{name}[{number}]"
    if was.begin != here.begin:
        return name  # what was before cannot be compared
    if was.before != here.before:
        return f"{name}[0] to [{first - 1}]"
    return f"{name}[{last}]" if was.end != here.end else ""


def _read(text: str) -> Outline | None:
    try:
        return msgspec.json.decode(text, type=Outline)
    except msgspec.MsgspecError:  # none was kept
        return None
