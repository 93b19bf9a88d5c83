"""Reads a dialect's SQL files: one named statement each, a comment above saying why."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

_HEADER = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def load(package: str, columns: dict[str, str], folder: str = "queries") -> dict[str, str]:
    """The statements of a folder of ``package`` by name; ``{RUN}`` becomes ``columns["RUN"]``."""
    found: dict[str, str] = {}
    for file in sql_files(package, folder):
        parts = _HEADER.split(file.read_text(encoding="utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"{package} names the statement {name} twice")
            found[name] = _fill(_strip(body), columns)
    return found


def sql_files(package: str, folder: str) -> list[Path]:
    """The SQL files of a folder of ``package``, by name. (``importlib.resources`` would import more than all this.)"""
    [where] = import_module(package).__path__
    return sorted(Path(where, folder).glob("*.sql"))


def _strip(body: str) -> str:
    lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
    return "\n".join(lines).strip().rstrip(";")


def _fill(sql: str, columns: dict[str, str]) -> str:
    for word, names in columns.items():
        sql = sql.replace(f"{{{word}}}", names)
    return sql


def migrations(package: str) -> list[tuple[int, str]]:
    """The numbered migrations of ``package``, in order."""
    files = sql_files(package, "migrations")
    return [(int(entry.name.split("_")[0]), entry.read_text(encoding="utf-8")) for entry in files]
