"""Secrets by name: ``secret:NAME`` in relit.toml stands for a secret of the vault, else for a line of secrets.toml in
the data folder."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from relit.errors import ConfigError
from relit.settings.check import nearest

_PREFIX = "secret:"


def named(value: Any) -> Iterator[str]:
    """Every NAME that ``secret:NAME`` stands for in a tree of values."""
    if isinstance(value, str):
        if value.startswith(_PREFIX):
            yield value.removeprefix(_PREFIX)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from named(each)
    elif isinstance(value, Iterable):
        for each in value:
            yield from named(each)


class Secrets:
    """What the vault handed out (``hold``), and the contents of secrets.toml, read when first asked for. ``str`` and
    ``repr`` show no value."""

    def __init__(self, data: Path) -> None:
        self._path = data / "secrets.toml"
        self._values: dict[str, str] | None = None
        self._held: dict[str, str] = {}
        self._since: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Secrets({str(self._path)!r})"

    def reveal(self, value: str) -> str:
        """The value that ``secret:NAME`` stands for; any other text is itself. Raises ``ConfigError``."""
        if not value.startswith(_PREFIX):
            return value
        name = value.removeprefix(_PREFIX)
        if name in self._held:
            return self._held[name]
        known = self._read()
        if name in known:
            return known[name]
        meant = nearest(name, {**known, **self._held})
        raise ConfigError(
            f"the secret {name} is not set",
            why=f"the vault has none, nor {self._path}" + (f"; did you mean {meant}?" if meant else ""),
            fix=f"relit secret set {name}",
        )

    def hold(self, name: str, value: str, since_ms: int) -> None:
        """Know this one from now on: the vault has handed it out, and it is this one since then."""
        self._held[name] = value
        self._since[name] = since_ms

    def has(self, name: str) -> bool:
        """Whether it is set. Raises ``ConfigError`` as ``reveal``."""
        return name in self._held or name in self._read()

    def stamp(self, names: Iterable[str]) -> str:
        """Another text when one of them may have another value; tells none."""
        try:
            file = self._path.stat().st_mtime_ns
        except OSError:
            file = 0
        known = sorted({*names})
        return " ".join(f"{name}@{self._since[name]}" if name in self._since else f"{name}#{file}" for name in known)

    def names(self) -> list[str]:
        """The names that are in the file."""
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
