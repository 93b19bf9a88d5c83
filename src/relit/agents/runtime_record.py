"""What is known of an installed runtime: ``runtime.json`` in its folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from relit.agents.recipes import Recipe

NAME = "runtime.json"


class Artifact(msgspec.Struct, frozen=True):
    """A wheel or tarball that went into a runtime.

    ``hash`` is what the tool that fetched it checked: ``sha256:…`` of a wheel, npm's ``sha512-…``; empty for what
    did not come as a file of its own (inside another's tarball, or a folder of the user's).
    """

    name: str
    version: str
    hash: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """``python`` and ``node`` are the versions that were taken; ``sums`` is the BLAKE3 of ``runtime.sums.json``."""

    kind: str
    version: str
    installed_ms: int
    size_bytes: int
    files: int
    sums: str
    artifacts: list[Artifact]
    recipe: Recipe
    node: str = ""
    python: str = ""


class Runtime(Record, frozen=True, kw_only=True):
    """An installed version of a kind. ``size_bytes`` on the disk, without Node, which kinds share."""

    path: Path


def read(path: Path) -> Runtime | None:
    """The runtime in that folder; ``None`` when none was finished there."""
    try:
        record = msgspec.json.decode((path / NAME).read_bytes(), type=Record)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    return at(path, record)


def at(path: Path, record: Record) -> Runtime:
    """The runtime that lies there."""
    return Runtime(path=path, **{name: getattr(record, name) for name in record.__struct_fields__})


def use(path: Path) -> None:
    """Somebody is about to need the one that lies there. It may be somebody else's, who is not told."""
    with suppress(OSError):
        os.utime(path / NAME)


def used_ms(path: Path) -> int:
    """When somebody last asked for it, or it was made; 0 when it is gone."""
    try:
        return (path / NAME).stat().st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return 0


def write(path: Path, record: Record) -> None:
    """Into a folder that nobody reads yet: it comes to the disk with everything else there."""
    (path / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
