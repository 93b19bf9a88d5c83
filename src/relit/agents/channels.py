"""Where an agent waits for messages on connections of its own: what its configuration says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relit.agents import adoption, config
from relit.agents.kind import Kind

_OFF = ("", "0", "false", "no", "off")


def found(home: Path, kind: Kind, env: Mapping[str, str]) -> list[str]:
    """What the kind's ``channels`` find: keys of its configuration, and variables, of ``env`` or of a file. A table
    that says ``enabled = false`` is none. Nothing, where the configuration cannot be read: it would not start."""
    tree: dict[str, Any] = {}
    if kind.config and kind.channels:
        try:
            tree = config.read(home, kind.config[0].file(model=False, silent=False))
        except (OSError, ValueError):
            pass
    others = {where[1:] for where in kind.channels if where.startswith("!")}
    said = [each for where in kind.channels if where[0] != "!" for each in _said(home, tree, where, env)]
    return [name for name, value in said if name not in others and _is_on(value)]


def _said(home: Path, tree: dict[str, Any], where: str, env: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    _, is_file, variable = where.partition(":")
    if is_file:
        yield variable, env.get(variable) or adoption.door_said(home, {}, where)
        return
    for key, _ in config.matching(tree, where):
        yield key.removesuffix(".enabled"), config.said(tree, key)


def _is_on(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and value.get("enabled") is not False
    return value is not None and str(value).lower() not in _OFF
