"""What is wrong with a configuration: all of it, not only the first fault. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

import msgspec

from relit.settings.kinds import Path, allowed, bare, hints, is_secret, is_struct
from relit.settings.model import LATER, File


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong: where (``key``), what, what would be right."""

    key: Path
    problem: str
    allowed: str = ""
    meant: str = ""

    def __str__(self) -> str:
        text = f"{'.'.join(self.key)}: {self.problem}"
        if self.meant:
            text += f"; did you mean {self.meant}?"
        return f"{text} (allowed: {self.allowed})" if self.allowed else text


def faults(raw: Mapping[str, Any]) -> list[Fault]:
    """Every fault of form: unknown keys, wrong types, values out of range, missing keys."""
    return list(_struct(raw, File, ()))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that ``word`` was probably meant to be, or an empty string."""
    import difflib  # only needed when something is wrong

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")


def _struct(raw: object, cls: type[msgspec.Struct], path: Path) -> Iterator[Fault]:
    if not isinstance(raw, Mapping):
        yield Fault(path, f"must be a table, not {_shown(raw)}")
        return
    fields = hints(cls)
    for key, value in raw.items():
        if key in fields:
            yield from _value(value, fields[key], (*path, key))
        else:
            yield _unknown((*path, key), fields)
    for field in msgspec.structs.fields(cls):
        if field.required and field.encode_name not in raw:
            yield Fault((*path, field.encode_name), "is missing", allowed(fields[field.name]))


def _value(raw: object, kind: Any, path: Path) -> Iterator[Fault]:
    plain = bare(kind)
    if is_struct(plain):
        yield from _struct(raw, plain, path)
    elif get_origin(plain) is dict:
        yield from _table(raw, plain, path)
    else:
        yield from _leaf(raw, kind, path)


def _table(raw: object, kind: Any, path: Path) -> Iterator[Fault]:
    if not isinstance(raw, Mapping):
        yield Fault(path, f"must be a table, not {_shown(raw)}")
        return
    name, value = get_args(kind)
    for key, item in raw.items():
        if list(_leaf(key, name, path)):
            yield Fault(
                (*path, key), "is not a name", "small letters, digits, - _ . ; at most 63; first a letter or digit"
            )
        yield from _value(item, value, (*path, key))


def _leaf(raw: object, kind: Any, path: Path) -> Iterator[Fault]:
    try:
        msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        right = allowed(kind)
        choices = right.split(" | ") if " | " in right else []
        meant = nearest(raw, choices) if isinstance(raw, str) else ""
        problem = "is not allowed" if is_secret(kind) else f"{_shown(raw)} is not allowed"
        yield Fault(path, problem, right, meant)


def _unknown(path: Path, known: Mapping[str, Any]) -> Fault:
    general = ".".join("*" if i == 1 else part for i, part in enumerate(path))
    if later := LATER.get(general) or LATER.get(path[0] if len(path) == 1 else ""):
        return Fault(path, f"{later} is not in this version of relit: remove it, so that nobody relies on it")
    return Fault(path, "there is no such setting", ", ".join(sorted(known)), nearest(path[-1], known))


def _shown(raw: object) -> str:
    text = json.dumps(raw, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
