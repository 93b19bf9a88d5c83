"""The process's environment: the only place that reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# RELIT_NAME without a double underscore: not a key of relit.toml but a place, an address or a switch.
PLAIN = {
    "RELIT_DATA": "the data folder",
    "RELIT_CONFIG": "the configuration file",
    "RELIT_SERVER": "the server's URL, for the command line and clients",
    "RELIT_HOME": "the own folder of an agent of relit.toml, for its program; not read by relit",
    "RELIT_SETTINGS_OF": "set by the node for relit's own processes: they start again when settings change; not read",
    "RELIT_TOKEN": "the API token, for the command line and clients",
}


class Environment:
    """What the environment says. Tests hand in a mapping of their own."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = dict(os.environ if variables is None else variables)

    def get(self, name: str) -> str | None:
        """The variable, or None when it is not set or empty."""
        return self._variables.get(name) or None

    @property
    def all(self) -> dict[str, str]:
        """A copy of everything, for child processes."""
        return dict(self._variables)

    @property
    def home(self) -> Path:
        return Path(self.get("HOME") or Path.home())

    @property
    def data(self) -> Path:
        """The data folder: RELIT_DATA, else ``relit`` in XDG_DATA_HOME (~/.local/share)."""
        if named := self.get("RELIT_DATA"):
            return Path(named).expanduser().absolute()
        return Path(self.get("XDG_DATA_HOME") or self.home / ".local/share").absolute() / "relit"

    @property
    def user_config(self) -> Path:
        """The user's own relit.toml (which need not exist)."""
        return Path(self.get("XDG_CONFIG_HOME") or self.home / ".config") / "relit" / "relit.toml"

    @property
    def config(self) -> Path | None:
        """RELIT_CONFIG, if set."""
        named = self.get("RELIT_CONFIG")
        return Path(named).expanduser().absolute() if named else None

    @property
    def server(self) -> str | None:
        return self.get("RELIT_SERVER")

    @property
    def token(self) -> str | None:
        return self.get("RELIT_TOKEN")

    @property
    def colour(self) -> bool:
        """False when NO_COLOR is set or the terminal is dumb."""
        return self.get("NO_COLOR") is None and self.get("TERM") != "dumb"

    @property
    def ci(self) -> bool:
        """Whether nobody is there to answer a question."""
        return (self.get("CI") or "").lower() in {"1", "true", "yes"}

    def settings(self) -> dict[str, str]:
        """The variables that override one key of relit.toml each: ``RELIT_SERVER__LISTEN``."""
        return {k: v for k, v in sorted(self._variables.items()) if k.startswith("RELIT_") and "__" in k}

    def others(self) -> list[str]:
        """RELIT_* variables that are neither places nor settings."""
        return sorted(k for k in self._variables if k.startswith("RELIT_") and "__" not in k and k not in PLAIN)
