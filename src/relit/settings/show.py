"""Settings as a person may see them: secrets and passwords are masked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec

from relit.settings import Settings
from relit.settings.kinds import Path, allowed, bare, description, hints, is_secret, is_struct, resolve
from relit.settings.model import File

MASK = "********"
_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):([^@\s]*)@")


def mask(text: str) -> str:
    """A URL or DSN without its password."""
    return _PASSWORD.sub(rf"\1:{MASK}@", text)


def rows(settings: Settings) -> Iterator[tuple[Path, Any, str]]:
    """Every setting: its key, a value that may be shown, where it comes from."""
    yield from _rows(settings, settings.file, ())


def _rows(settings: Settings, table: Any, path: Path) -> Iterator[tuple[Path, Any, str]]:
    items = (
        table.items() if isinstance(table, dict) else ((name, getattr(table, name)) for name in table.__struct_fields__)
    )
    for name, value in items:
        key = (*path, name)
        if isinstance(value, (msgspec.Struct, dict)):
            yield from _rows(settings, value, key)
        else:
            yield key, _safe(value, key), settings.origin(key)


def _safe(value: Any, key: Path) -> Any:
    if isinstance(value, list):
        return [_safe(item, key) for item in value]
    if isinstance(value, str):
        if is_secret(resolve(key)) and not value.startswith("secret:"):
            return MASK
        return mask(value)
    return value


def tree(settings: Settings) -> dict[str, Any]:
    """The same as nested tables, for JSON."""
    found: dict[str, Any] = {}
    for key, value, _ in rows(settings):
        table = found
        for part in key[:-1]:
            table = table.setdefault(part, {})
        table[key[-1]] = value
    return found


def text(value: Any) -> str:
    """One value as TOML writes it."""
    return "(none)" if value is None else json.dumps(value, ensure_ascii=False)


def reference(kind: Any = File, path: Path = ()) -> Iterator[tuple[str, str, Any, str]]:
    """Every setting there is, for the documents and their test: key, what it takes, default, description."""
    for field in msgspec.structs.fields(kind):
        annotated = hints(kind)[field.name]
        plain, key = bare(annotated), (*path, field.name)
        if is_struct(plain):
            yield from reference(plain, key)
        elif get_origin(plain) is dict and is_struct(bare(get_args(plain)[1])):
            yield from reference(bare(get_args(plain)[1]), (*key, "NAME"))
        else:
            yield ".".join(key), allowed(annotated), _default(field), description(annotated)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory()
