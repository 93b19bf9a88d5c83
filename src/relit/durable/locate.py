"""Finds which part of a value cannot be stored, for the error message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass

_DEEPEST = 20


def locate(value: object, fits: Callable[[object], bool]) -> str:
    """The path (``$.items[2].client``) to the innermost part of ``value`` for which ``fits`` is false."""
    path = "$"
    for _ in range(_DEEPEST):
        for step, part in _parts(value):
            if not fits(part):
                path, value = path + step, part
                break
        else:
            break
    return path


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield f".{key}" if isinstance(key, str) else f"[{key!r}]", part
    elif isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes, bytearray)):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield f".{field.name}", getattr(value, field.name)
    elif hasattr(value, "__struct_fields__"):
        for name in value.__struct_fields__:
            yield f".{name}", getattr(value, name)
