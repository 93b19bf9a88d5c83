"""Where agents stand in the configuration: one file of ``agents.d`` each, or a table of relit.toml."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from relit.errors import ConfigError, NotFound
from relit.settings import Environment, Settings
from relit.settings.check import nearest
from relit.settings.locate import line_of, lines_of

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_VALUE = re.compile(r"\s*=\s*(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^#]*?)(\s*(?:#.*)?)$")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The file that holds an agent; ``lines``: which of its lines; ``alone``: it holds nothing else."""

    path: Path
    text: str
    lines: list[tuple[int, int]]
    alone: bool

    def told(self) -> str:
        """``relit.toml, lines 3 to 9``."""
        pieces = [str(first) if first == last else f"{first} to {last}" for first, last in self.lines]
        return f"{self.path}, line{'s' if len(pieces) > 1 or ' ' in pieces[0] else ''} {' and '.join(pieces)}"


def config_of(settings: Settings, environment: Environment) -> Path:
    """The configuration file; the user's own when there is none yet."""
    return settings.path or environment.user_config


def own_file(config: Path, name: str) -> Path:
    """The file that is an agent's alone."""
    return config.parent / "agents.d" / f"{name}.toml"


def see_known(settings: Settings, name: str) -> None:
    """Raises ``NotFound`` for an agent that the configuration does not name."""
    if name not in settings.agents:
        meant = nearest(name, settings.agents)
        why = f"did you mean {meant}?" if meant else f"there are {', '.join(sorted(settings.agents)) or 'none'}"
        raise NotFound(f"there is no agent {name} in the configuration", why=why, fix="relit agent ls")


def standing(settings: Settings, name: str) -> Standing:
    """Where it stands. NotFound; ConfigError when it stands in no file."""
    see_known(settings, name)
    for source in settings.sources:
        if source.text is not None and settings.path is not None and source.has(("agents", name)):
            alone = set(source.values) == {"agents"} and set(source.values["agents"]) == {name}
            lines = lines_of(source.text, ("agents", name)) or [(1, len(source.text.splitlines()))]
            return Standing(path=settings.path.parent / source.name, text=source.text, lines=lines, alone=alone)
    raise ConfigError(
        f"{name} stands in no file",
        why="the environment alone names it",
        fix=f"env | grep RELIT_AGENTS__{name.upper()}",
    )


def put(path: Path, text: str) -> None:
    """Write a file of the configuration, whole or not at all; on disk when this returns. Its mode stays. OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync(path.parent)


def drop(path: Path) -> None:
    """Remove it; not there is fine. OSError."""
    if path.exists():
        path.unlink()
        _sync(path.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# --- text ---------------------------------------------------------------------------------------------------------


def table(path: tuple[str, ...], values: Mapping[str, Any]) -> str:
    """A table of plain values and lists; ``None`` is left out."""
    lines = [f"{key(name)} = {value(each)}" for name, each in values.items() if each is not None]
    return "\n".join([f"[{'.'.join(map(key, path))}]", *lines]) + "\n"


def key(name: str) -> str:
    """A name as TOML's key."""
    return name if _BARE.fullmatch(name) else value(name)


def value(given: Any) -> str:
    """A plain value as TOML has it."""
    if isinstance(given, list | tuple):
        return f"[{', '.join(map(value, given))}]"
    if isinstance(given, Mapping):
        return "{ " + ", ".join(f"{key(name)} = {value(each)}" for name, each in given.items()) + " }"
    text = json.dumps(given, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")


def with_key(text: str, path: tuple[str, ...], name: str, given: Any) -> str:
    """The text with ``name`` in the table ``path``, which it has. Everything else stays. ConfigError."""
    wanted = tomllib.loads(text)
    here = wanted
    for part in path:
        here = here[part]
    here[name] = given
    made = _set(text, path, name, given)
    try:
        if tomllib.loads(made) == wanted:
            return made
    except tomllib.TOMLDecodeError:
        pass  # it is written in a way that we do not follow
    raise ConfigError(
        f"{name} of {'.'.join(path)} was not written", why="its table is written in an unusual way",
        fix=f"write there by hand: {name} = {value(given)}",
    )  # fmt: skip


def _set(text: str, path: tuple[str, ...], name: str, given: Any) -> str:
    lines = text.splitlines()
    header = line_of(text, path)
    assert header is not None, "the table is there"
    at = line_of(text, (*path, name))
    if at is not None and at != header and (match := _VALUE.search(lines[at - 1])):
        lines[at - 1] = f"{lines[at - 1][: match.start()]} = {value(given)}{match[2]}"
    else:
        lines.insert(header, f"{key(name)} = {value(given)}")
    return "\n".join(lines) + "\n"
