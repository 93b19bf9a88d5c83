"""What a configuration must look like, where its agent does not say so itself: it starts, and then answers nothing.

Pure. A check answers faults; the types are those of the versions named in the kinds' files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_NAMES = {str: "text", dict: "a table", list: "a list", bool: "true or false", int: "a number", float: "a number"}

HERMES: Mapping[str, tuple[type, ...]] = {
    "model": (str, dict),
    "model.default": (str,),
    "model.provider": (str,),
    "model.base_url": (str,),
    "model.api_key": (str,),
    "providers": (dict, list),
    "mcp_servers": (dict,),
    "mcp_servers.*": (dict,),
    "mcp_servers.*.url": (str,),
    "mcp_servers.*.headers": (dict,),
    "agent": (dict,),
    "terminal": (dict,),
    "security": (dict,),
    "toolsets": (list,),
    "platforms": (dict,),
}


def hermes(tree: Mapping[str, Any]) -> list[str]:
    """Hermes starts with any file, and takes its defaults for what it cannot use."""
    return mistyped(tree, HERMES)


def openclaw(tree: Mapping[str, Any]) -> list[str]:
    """OpenClaw refuses what it does not know by itself (exit code 78); this one it must have."""
    gateway = tree.get("gateway")
    mode = gateway.get("mode") if isinstance(gateway, Mapping) else None
    return [] if mode in ("local", "remote") else ["gateway.mode must be local or remote"]


def mistyped(tree: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> list[str]:
    """Values at dotted keys (``*``: any key) that have another type."""
    faults = []
    for key, kinds in types.items():
        for where, value in _at(tree, key.split("."), ""):
            if value is not None and not isinstance(value, kinds):
                wanted = " or ".join(dict.fromkeys(_NAMES[kind] for kind in kinds))
                faults.append(f"{where} must be {wanted}, not {_NAMES.get(type(value), type(value).__name__)}")
    return faults


def _at(tree: Any, parts: list[str], above: str) -> list[tuple[str, Any]]:
    if not parts:
        return [(above, tree)]
    if not isinstance(tree, Mapping):
        return []
    names = list(tree) if parts[0] == "*" else [parts[0]] if parts[0] in tree else []
    prefix = f"{above}." if above else ""
    return [found for name in names for found in _at(tree[name], parts[1:], f"{prefix}{name}")]


CHECKS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {"hermes": hermes, "openclaw": openclaw}
