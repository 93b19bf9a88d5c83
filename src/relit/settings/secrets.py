"""Secrets by name: ``secret:NAME`` in relit.toml stands for a line of secrets.toml in the data folder."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from relit.errors import ConfigError
from relit.settings.check import nearest

_PREFIX = "secret:"


class Secrets:
    """The contents of secrets.toml, read when first asked for. ``str`` and ``repr`` show no value."""

    def __init__(self, data: Path) -> None:
        self._path = data / "secrets.toml"
        self._values: dict[str, str] | None = None

    def __repr__(self) -> str:
        return f"Secrets({str(self._path)!r})"

    def reveal(self, value: str) -> str:
        """The value that ``secret:NAME`` stands for; any other text is itself. Raises ``ConfigError``."""
        if not value.startswith(_PREFIX):
            return value
        name, known = value.removeprefix(_PREFIX), self._read()
        if name in known:
            return known[name]
        meant = nearest(name, known)
        raise ConfigError(
            f"the secret {name} is not set",
            why=f"{self._path} has no such line" + (f"; did you mean {meant}?" if meant else ""),
            fix=f"umask 077; echo '{name} = \"…\"' >> {self._path}",
        )

    def names(self) -> list[str]:
        """The names that are set."""
        return sorted(self._read())

    def _read(self) -> Mapping[str, str]:
        if self._values is None:
            self._values = self._load()
        return self._values

    def _load(self) -> dict[str, str]:
        try:
            mode = self._path.stat().st_mode & 0o777
            text = self._path.read_text()
            values = tomllib.loads(text)
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {self._path}", why=str(error), fix=f"ls -l {self._path}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{self._path} is not TOML", why=str(error), fix=f"edit {self._path}") from error
        if mode & 0o077:
            raise ConfigError(
                f"{self._path} can be read by others (mode {mode:04o})",
                why="it holds secrets; relit reads it only when it is yours alone",
                fix=f"chmod 600 {self._path}",
            )
        wrong = sorted(name for name, value in values.items() if not isinstance(value, str))
        if wrong:
            raise ConfigError(
                f"{self._path}: {', '.join(wrong)} is not a string",
                why='every line is NAME = "value"',
                fix=f"edit {self._path}",
            )
        return values
