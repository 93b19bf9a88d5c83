"""Where in a TOML file a key stands. Pure: text and path in, a line number out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

_KEY = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')"
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_ASSIGN = re.compile(rf"\s*({_DOTTED})\s*=")
_TRIPLE = re.compile(r'"""|' + r"'''")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line (from 1) of ``path``, or of the nearest table or key around it; None when nothing of it is there."""
    best, depth = None, 0
    for number, key in _keys(text):
        common = 0
        for have, want in zip(key, path, strict=False):
            if have != want:
                break
            common += 1
        if common > depth and (common == len(key) or common == len(path)):
            best, depth = number, common
    return best


def lines_of(text: str, path: Sequence[str]) -> list[tuple[int, int]]:
    """All that stands at and below ``path``: (first line, last line) of each piece, from 1."""
    lines, found = text.splitlines(), list[tuple[int, int]]()
    keys = [*_keys(text), (len(lines) + 1, [])]
    for (number, key), (after, _) in pairwise(keys):
        if key[: len(path)] != list(path):
            continue
        last = after - 1
        while last > number and (not lines[last - 1].strip() or lines[last - 1].lstrip().startswith("#")):
            last -= 1  # blank lines and remarks go with what follows
        if found and all(not line.strip() for line in lines[found[-1][1] : number - 1]):
            found[-1] = (found[-1][0], last)
        else:
            found.append((number, last))
    return found


def _keys(text: str) -> Iterator[tuple[int, list[str]]]:
    """Every header and assignment with its full path. Keys inside inline tables belong to their line."""
    table: list[str] = []
    inside = ""  # the quotes of a multi-line string that is open
    for number, line in enumerate(text.splitlines(), 1):
        if not inside:
            if match := _HEADER.match(line):
                table = _split(match[1])
                yield number, table
            elif match := _ASSIGN.match(line):
                yield number, table + _split(match[1])
        inside = _open_quotes(line, inside)


def _open_quotes(line: str, inside: str) -> str:
    for match in _TRIPLE.finditer(line):
        if not inside:
            inside = match[0]
        elif inside == match[0]:
            inside = ""
    return inside


def _split(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, dotted)]
