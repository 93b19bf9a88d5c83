"""Reads the places that settings come from: relit.toml, agents.d/*.toml, the environment, flags."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

import msgspec

from relit.errors import ConfigError
from relit.settings.check import Fault, nearest
from relit.settings.environment import Environment
from relit.settings.kinds import Path, bare, hints, is_struct, resolve
from relit.settings.locate import line_of
from relit.settings.model import File as Root


class Source(msgspec.Struct, frozen=True):
    """One place: its values as a tree, and how to say where one of them stands."""

    name: str
    values: dict[str, Any]
    text: str | None = None  # of a file
    names: dict[Path, str] = {}  # of variables and flags, by key

    def where(self, key: Path) -> str:
        """``relit.toml:3``, ``RELIT_SERVER__LISTEN`` or ``--listen``."""
        if self.text is not None:
            line = line_of(self.text, key)
            return self.name if line is None else f"{self.name}:{line}"
        near = [name for path, name in self.names.items() if path[: len(key)] == key or key[: len(path)] == path]
        return near[0] if near else self.name

    def has(self, key: Path) -> bool:
        """Whether this source says anything at or below ``key``."""
        tree: object = self.values
        for part in key:
            if not isinstance(tree, Mapping) or part not in tree:
                return False
            tree = tree[part]
        return True


def read_text(path: File) -> str:
    """A file's text. Raises ``ConfigError``."""
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no file {path}", why="--config or RELIT_CONFIG names it", fix="relit config path"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", why=str(error), fix=f"ls -l {path}") from error


def parse_file(path: File, shown: str, text: str) -> Source:
    """The text of a TOML file. Raises ``ConfigError`` with the line when it is not one."""
    try:
        return Source(shown, tomllib.loads(text), text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{shown} is not valid TOML", why=f"{shown}: {error}", fix=f"edit {path}, then: relit config check"
        ) from error


def read_environment(environment: Environment, known: Mapping[str, Any]) -> tuple[Source, list[Fault]]:
    """``RELIT_A__B`` overrides; ``known`` is the tree so far, for the names of agents."""
    values: dict[str, Any] = {}
    names: dict[Path, str] = {}
    faults: list[Fault] = []
    for variable, text in environment.settings().items():
        key = _key(variable, known)
        kind = resolve(key)
        if kind is None:
            faults.append(Fault((variable,), "there is no such setting", meant=_variable(key)))
            continue
        _put(values, key, _parse(text, kind))
        names[key] = variable
    faults.extend(_slips(environment))
    return Source("the environment", values, names=names), faults


def read_flags(overrides: Mapping[str, Any]) -> Source:
    """Flags as ``{"server.listen": value}``; None means not given."""
    values: dict[str, Any] = {}
    names: dict[Path, str] = {}
    for dotted, value in overrides.items():
        if value is not None:
            key = tuple(dotted.split("."))
            _put(values, key, value)
            names[key] = f"--{key[-1].replace('_', '-')}"
    return Source("the command line", values, names=names)


def _key(variable: str, known: Mapping[str, Any]) -> Path:
    """The key a variable means. Names of agents may hold signs a variable cannot: ``my-agent`` is ``MY_AGENT``."""
    key: list[str] = []
    tree: object = known
    for part in variable.removeprefix("RELIT_").lower().split("__"):
        have = {_plain(name): name for name in tree} if isinstance(tree, Mapping) else {}
        name = have.get(_plain(part), part)
        tree = tree.get(name) if isinstance(tree, Mapping) else None
        key.append(name)
    return tuple(key)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _variable(key: Path) -> str:
    """The variable that ``key`` was probably meant to be."""
    for end in range(len(key) - 1, -1, -1):
        kind = bare(resolve(key[:end])) if end else Root
        if is_struct(kind) and (meant := nearest(key[end], hints(kind))):
            return "RELIT_" + "__".join((*key[:end], meant, *key[end + 1 :])).upper()
    return ""


def _slips(environment: Environment) -> list[Fault]:
    """``RELIT_SERVER_LISTEN`` with one underscore is a slip that would otherwise go unnoticed."""
    full = {f"RELIT_{table}__{key}".upper(): table for table in hints(Root) for key in _fields(table)}
    slips = {name.replace("__", "_"): name for name in full}
    return [
        Fault((name,), "is not read: two underscores stand between table and key", meant=slips[name])
        for name in environment.others()
        if name in slips
    ]


def _fields(table: str) -> list[str]:
    kind = bare(hints(Root)[table])
    return list(hints(kind)) if is_struct(kind) else []


def _parse(text: str, kind: Any) -> Any:
    """A variable's text as the setting's type: as it is, if that fits; else as a TOML or JSON value."""
    try:
        return msgspec.convert(text, kind)
    except msgspec.ValidationError:
        pass
    for read in (_toml, json.loads):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _toml(text: str) -> Any:
    return tomllib.loads(f"x = {text}")["x"]


def _put(tree: dict[str, Any], key: Path, value: Any) -> None:
    for part in key[:-1]:
        tree = tree.setdefault(part, {})
    tree[key[-1]] = value
