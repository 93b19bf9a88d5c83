"""Versions, and ranges of them: ``>=24.16,<25``."""

from __future__ import annotations

import operator
import re

_NUMBERS = re.compile(r"\d+(?:\.\d+)*")
_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)\s*")
_MEANING = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
Numbers = tuple[int, ...]


def numbers(version: str) -> Numbers:
    """What a version counts by: ``24.19.0.post1`` and ``24.19`` are both (24, 19)."""
    match = _NUMBERS.match(version)
    if not match:
        raise ValueError(f"{version!r} is not a version")
    found = [int(each) for each in match[0].split(".")]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)


def fits(wanted: str, version: str) -> bool:
    """Whether a version is in a range; any is in ``""``. Raises ``ValueError`` for a range that is none."""
    has = numbers(version)
    return all(_MEANING[sign](has, than) for sign, than in clauses(wanted))


def clauses(wanted: str) -> list[tuple[str, Numbers]]:
    """A range's parts. Raises ``ValueError`` when it is none."""
    found = []
    for part in wanted.split(",") if wanted.strip() else []:
        match = _CLAUSE.fullmatch(part)
        if not match:
            raise ValueError(f"{wanted!r} is not a range of versions: write >=24.16,<25")
        found.append((match[1], numbers(match[2])))
    return found
