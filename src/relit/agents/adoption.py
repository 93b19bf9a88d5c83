"""An installation that its owner made: which kind it is, whether it runs, what its configuration says. Reads only."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from relit.agents import config, env_file
from relit.agents.kind import Adopt, Aside, Kind
from relit.lib import proc

_ASK_S = 1.0
_PORT = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"[\w-]{1,80}")  # of an entry that a folder is named after


class Living(msgspec.Struct, frozen=True):
    """Why an installation counts as alive."""

    pid: int | None
    why: str


def recognised(source: Path, kinds: Mapping[str, Kind]) -> list[str]:
    """The kinds whose marks are all there."""
    return [
        name
        for name, kind in kinds.items()
        if kind.adopt is not None and all((source / mark).exists() for mark in kind.adopt.marks)
    ]


def inside(kind: Kind) -> str:
    """Its configuration file, below the installation's folder; empty when it lies elsewhere."""
    return _below(kind, kind.config[0].path) if kind.config else ""


def variables(kind: Kind) -> str:
    """The same for its file of variables."""
    return _below(kind, kind.env_file)


def _below(kind: Kind, path: str) -> str:
    if kind.adopt is None or not path.startswith(f"{kind.adopt.into}/"):
        return ""
    return path.removeprefix(f"{kind.adopt.into}/")


def tree(source: Path, kind: Kind) -> dict[str, Any]:
    """What its configuration says; empty when there is none. OSError; ValueError."""
    path = inside(kind)
    if not path or not (source / path).exists():
        return {}
    return config.load((source / path).read_bytes(), kind.config[0].format)


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that a configuration names, or may name: under ``key``; where it goes below the home, and where it lies
    when nothing is said (empty: nowhere). ``many``: one of several that the kind's file tells of together."""

    key: str
    into: str
    usual: str = ""
    many: bool = False


def named(found: Any, folders: Sequence[Aside]) -> list[Named]:
    """All of them: a ``*`` in a key stands for each entry, ``{n}`` and ``{id}`` for its place and its own ``id``."""
    return [
        _named(each, key, entry)
        for each in folders
        for key, entry in config.matching(found, each.key)
        if "*" not in each.key or _NAME.fullmatch(_place_in(each, key))
    ]


def _place_in(folder: Aside, key: str) -> str:
    """Which entry of its list or table a key is about; empty: there is no ``*``."""
    parts = zip(folder.key.split("."), key.split("."), strict=True)
    return next((made for asked, made in reversed([*parts]) if asked == "*"), "")


def _named(folder: Aside, key: str, entry: Any) -> Named:
    id = str(entry.get("id") or "") if isinstance(entry, Mapping) else ""
    into = folder.into.replace("{n}", _place_in(folder, key))
    usual = folder.usual.replace("{n}", _place_in(folder, key))
    usual = usual.replace("{id}", id) if "{id}" not in usual or _NAME.fullmatch(id) else ""
    return Named(key=key, into=into, usual=usual, many="*" in folder.key)


def door_said(source: Path, found: Mapping[str, Any], where: str) -> Any:
    """What it says of a port or token: a key of its configuration, or ``FILE:VARIABLE``."""
    if ":" not in where:
        return config.said(found, where)
    file, _, variable = where.partition(":")
    return env_file.said(source, file).get(variable) or None


def port_of(source: Path, adopt: Adopt, found: Mapping[str, Any], name: str) -> int | None:
    """The port that it has; ``None`` when nobody says."""
    value = door_said(source, found, adopt.ports[name]) if name in adopt.ports else None
    if isinstance(value, int | str) and _PORT.fullmatch(str(value)) and 0 < int(value) < 65536:
        return int(value)
    return adopt.usual_ports.get(name)


# --- does it run --------------------------------------------------------------------------------------------------


def living(source: Path, adopt: Adopt, found: Mapping[str, Any], others: Collection[int] = ()) -> Living | None:
    """Who runs it, by its pid files, by the files that processes have open there, by its ports, but those that relit
    gave to ``others``. ``None``: nobody."""
    for path in adopt.pids:
        if (pid := _pid(source / path)) is not None and proc.start_time(pid) is not None and _is_user(pid, source):
            return Living(pid, f"{path} names it")
    for pid, path in _users(source):
        return Living(pid, f"it has {path} open")
    for name in {*adopt.ports, *adopt.usual_ports}:
        port = port_of(source, adopt, found, name)
        if port is not None and port not in others and _answers(port):
            return Living(None, f"something answers at its port {port}")
    return None


def _pid(path: Path) -> int | None:
    try:
        text = path.read_text(errors="replace").strip()
        value = json.loads(text) if text else None
    except (FileNotFoundError, ValueError):
        return None
    found = value.get("pid") if isinstance(value, dict) else value
    return found if isinstance(found, int) and found > 0 else None


def _is_user(pid: int, source: Path) -> bool:
    """Whether that process has to do with the folder: numbers are used again."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # it is not ours to look at: rather believe the file
    return (
        os.fsencode(source) in words or bool(list(_open(pid, source))) or os.fsencode(source.name.lstrip(".")) in words
    )


def _users(source: Path) -> Iterator[tuple[int, str]]:
    """(pid, path) of processes that have something of the folder open, but for us."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            for path in _open(int(name), source):
                yield int(name), path


def _open(pid: int, source: Path) -> Iterator[str]:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return  # it ended, or is somebody else's
    for name in names:
        try:
            path = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if path.startswith(f"{source}/"):
            yield path


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), _ASK_S):
            return True
    except OSError:
        return False
