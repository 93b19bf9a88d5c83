"""A file of variables (``.env``) that an agent puts in the place of its environment: read as python-dotenv reads it,
made to say what relit says. Every byte that is not such a value stays."""

from __future__ import annotations

import codecs
import contextlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from relit.agents import place
from relit.control.care import EnvFile

LARGEST = 1 << 20
_BLANK = re.compile(r"\s*")
_NAME = re.compile(r"(?:export[^\S\r\n]+)?+(?:'([^']+)'|([^=#\s'][^=#\s]*))[^\S\r\n]*")
_EQUALS = re.compile(r"=[^\S\r\n]*")
_QUOTED = re.compile(r"'((?:\\'|[^'])*)'|\"((?:\\\"|[^\"])*)\"")
_PLAIN = re.compile(r"[^\r\n]*")
_REMARK = re.compile(r"(?<=\s)#")
_END = re.compile(r"[^\S\r\n]*(?:#[^\r\n]*)?(?=[\r\n]|\Z)")
_ESCAPED = {"'": re.compile(r"\\[\\']"), '"': re.compile(r"\\[\\'\"abfnrtv]")}


class Assigned(NamedTuple):
    """A variable that a text gives a value; ``start`` and ``end``: where that is written."""

    name: str
    value: str
    start: int
    end: int


# --- in a home ----------------------------------------------------------------------------------------------------


def said(folder: Path, path: str) -> dict[str, str]:
    """What it says, by variable, whatever link leads to it. Nothing, where there is no plain file of moderate size."""
    return {each.name: each.value for each in assigned(_decoded(_behind(folder / path))[0])}


def own(home: Path, path: str, original: Path) -> None:
    """A copy of what the original leads to, in the place of a link that came along. OSError."""
    if (home / path).is_symlink() and original.is_file():
        place.remove(home, path)
        place.write(home, path, _behind(original))


def written(folder: Path, path: str, names: Collection[str]) -> dict[str, list[str]]:
    """How it says these, quotes and all, in the order in which they stand there."""
    text, found = _decoded(_behind(folder / path))[0], dict[str, list[str]]()
    for each in assigned(text):
        if each.name in names:
            found.setdefault(each.name, []).append(text[each.start : each.end])
    return found


def fit(home: Path, file: EnvFile) -> str:
    """Before a start: make it say what it must, where it says otherwise. Answers what is wrong; empty for nothing.
    What cannot be read is left as it is, and where there is none, none is made."""
    if not (data := _read(home, file.path)):
        found = said(home, file.path)
        other = [name for name, value in file.keep.items() if found.get(name, value) != value]
        return f"{file.path}: a link leads to it, and {', '.join(other)} must be what relit says" if other else ""
    try:
        _write(home, file.path, data, kept(data, file.keep))
    except OSError as error:
        return f"{file.path}: {error.strerror}"
    return ""


def undo(folder: Path, path: str, keep: Mapping[str, str], was: Mapping[str, Sequence[str]]) -> list[str]:
    """What ``fit`` made of it, as it ``was`` (see ``written``). Answers which variables are others now. OSError."""
    before = said(folder, path)
    data = _read(folder, path)
    _write(folder, path, data, restored(data, keep, was))
    after = said(folder, path)
    return [name for name in keep if before.get(name) != after.get(name)]


def _read(folder: Path, path: str) -> bytes:
    try:
        return place.read(folder, path, LARGEST)
    except (OSError, ValueError):
        return b""


def _behind(path: Path) -> bytes:
    try:
        where = path.resolve()
        return place.read(where.parent, where.name, LARGEST)
    except (OSError, ValueError, RuntimeError):  # the last: links in a circle
        return b""


def _write(folder: Path, path: str, was: bytes, data: bytes) -> None:
    if data != was:
        place.write(folder, path, data)


# --- its text -----------------------------------------------------------------------------------------------------


def kept(data: bytes, wanted: Mapping[str, str]) -> bytes:
    """With what is wanted wherever it says otherwise. What such a file cannot say (``spelled``) stays."""

    def other(each: Assigned, after: str) -> str | None:
        value = wanted.get(each.name, each.value)
        return None if value == each.value else spelled(value, after)

    return _changed(data, other)


def restored(data: bytes, keep: Mapping[str, str], was: Mapping[str, Sequence[str]]) -> bytes:
    """With what was written there before, wherever it says what is kept: the first time the first, and so on."""
    seen = Counter[str]()

    def before(each: Assigned, _: str) -> str | None:
        texts = was.get(each.name, ())
        seen[each.name] += 1
        return texts[min(seen[each.name], len(texts)) - 1] if texts and each.value == keep.get(each.name) else None

    return _changed(data, before)


def spelled(value: str, after: str = "") -> str | None:
    """How a value is written so that it is read as itself, with that ``after`` it on its line; ``None``: it cannot be.
    ``${`` would name a variable, and what else reads such files reads them by lines."""
    if "${" in value or len(value.splitlines()) > 1:
        return None
    quoted = [] if "\\" in value else [f"'{value}'", f'"{value}"']
    return next(
        (way for way in [value, *quoted] if [each.value for each in assigned(f"x={way}{after}")] == [value]), None
    )


def assigned(text: str) -> Iterator[Assigned]:
    """Every variable that it gives a value, as it comes; the last one of a name counts. Lines that are none are passed
    over, as python-dotenv does."""
    here = 1 if text.startswith("\ufeff") else 0
    while (here := _end_of(_BLANK, text, here)) < len(text):
        found = _NAME.match(text, here)
        here = found.end() if found else here
        if found is not None and (equals := _EQUALS.match(text, here)) is not None:
            value, here = _value(text, equals.end())
            if value is not None and _END.match(text, here) is not None:
                yield Assigned(found[1] or found[2], value, equals.end(), here)
        here = _end_of(_PLAIN, text, here)


def _value(text: str, start: int) -> tuple[str | None, int]:
    """The value that begins there, and where it ends. ``None``: its quotes do not."""
    quote = text[start : start + 1]
    if quote not in _ESCAPED:
        line = text[start : _end_of(_PLAIN, text, start)]
        remark = _REMARK.search(line)
        value = line[: remark.start() if remark else None].rstrip()
        return value, start + len(value)
    found = _QUOTED.match(text, start)
    if found is None:
        return None, start
    inside = text[start + 1 : found.end() - 1]
    return _ESCAPED[quote].sub(lambda each: codecs.decode(each[0], "unicode-escape"), inside), found.end()


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _changed(data: bytes, new: Callable[[Assigned, str], str | None]) -> bytes:
    """With other texts for values: ``new`` makes them of what is there and the rest of the line; ``None``: it stays.
    All stays where a quote in them would close one that is open since an earlier line."""
    text, codec = _decoded(data)
    pieces, done = list[bytes](), 0
    for each in assigned(text):
        if (raw := new(each, text[each.end : _end_of(_PLAIN, text, each.end)])) is not None:
            with contextlib.suppress(UnicodeEncodeError):  # it has no letters for that: it stays
                pieces += [text[done : each.start].encode(codec), raw.encode(codec)]
                done = each.end
    made = b"".join([*pieces, text[done:].encode(codec)])
    names = [[each.name for each in assigned(every)] for every in (text, made.decode(codec))]
    return made if names[0] == names[1] else data


def _decoded(data: bytes) -> tuple[str, str]:
    """As text, and by which codec."""
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"
