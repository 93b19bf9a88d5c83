"""Types of settings, read from the Structs: what is at a key, what it allows, whether it is secret. Pure."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from relit.settings.model import File

Path = tuple[str, ...]


def resolve(path: Path) -> Any:
    """The type of the setting at ``path``; None when there is none."""
    kind: Any = File
    for part in path:
        kind = bare(kind)
        if is_struct(kind):
            kind = hints(kind).get(part)
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return None
        if kind is None:
            return None
    return kind


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """A Struct's fields and their annotated types."""
    return get_type_hints(cls, include_extras=True)


def bare(kind: Any) -> Any:
    """The type without its annotations."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def is_struct(kind: Any) -> bool:
    """Whether the setting is a table of its own."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def is_secret(kind: Any) -> bool:
    """Whether a setting's value must not be shown."""
    return any((meta.extra_json_schema or {}).get("writeOnly") for meta in _metas(kind))


def description(kind: Any) -> str:
    """What the setting is for, in a sentence."""
    return next((meta.description for meta in _metas(kind) if meta.description), "")


def _metas(kind: Any) -> Iterator[msgspec.Meta]:
    if get_origin(kind) is Annotated:
        inner, *metas = get_args(kind)
        yield from (meta for meta in metas if isinstance(meta, msgspec.Meta))
        yield from _metas(inner)
    elif get_origin(kind) in (Union, types.UnionType, list):
        for part in get_args(kind):
            yield from _metas(part)


def allowed(kind: Any) -> str:
    """What a setting takes, in words."""
    for meta in _metas(kind):
        match (meta.extra_json_schema or {}).get("format"):
            case "relit-duration":
                return "a duration: 90s, 10m, 2h, 1d"
            case "relit-size":
                return "a size: 300M, 2G"
    info = msgspec.inspect.type_info(kind)
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return _words(info)


def _words(info: msgspec.inspect.Type) -> str:
    match info:
        case msgspec.inspect.LiteralType(values=values):
            return " | ".join(str(value) for value in values)
        case msgspec.inspect.UnionType(types=parts):
            return " or ".join(_words(p) for p in parts if not isinstance(p, msgspec.inspect.NoneType))
        case msgspec.inspect.BoolType():
            return "true | false"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return _range(info)
        case msgspec.inspect.StructType():
            return "a table"
        case msgspec.inspect.ListType(item_type=msgspec.inspect.StructType()):
            return "a list of tables"
        case msgspec.inspect.ListType():
            return "a list of strings"
        case msgspec.inspect.StrType(pattern=str(pattern)) if pattern.startswith("^http"):
            return "an http:// or https:// address"
        case _:
            return "a string"


def _range(info: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    kind = "a whole number" if isinstance(info, msgspec.inspect.IntType) else "a number"
    if info.ge is not None and info.le is not None:
        return f"{kind} from {info.ge} to {info.le}"
    if info.ge is not None:
        return f"{kind}, {info.ge} or more"
    return f"{kind} above {info.gt}" if info.gt is not None else kind
