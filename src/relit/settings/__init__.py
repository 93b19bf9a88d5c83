"""relit.toml and the environment: what can be set, how it is found, checked and shown.

What is exported here is imported at its first use: most commands need the environment alone. The module ``load`` is
reached through here only: imported by its own name, it would stand in the place of the function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relit.settings.environment import Environment as Environment
    from relit.settings.load import Settings as Settings
    from relit.settings.load import find as find
    from relit.settings.load import load as load
    from relit.settings.secrets import Secrets as Secrets

_HOMES = {"Environment": "environment", "Secrets": "secrets", "Settings": "load", "find": "load", "load": "load"}

__all__ = ["Environment", "Secrets", "Settings", "find", "load"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{home}")
    globals().update({each: getattr(module, each) for each, place in _HOMES.items() if place == home})
    return globals()[name]
