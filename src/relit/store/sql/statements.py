"""Reads ``queries.sql``: one named statement each, a comment above saying why."""

from __future__ import annotations

import re
from importlib import resources

_HEADER = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def load(package: str, columns: dict[str, str], file: str = "queries.sql") -> dict[str, str]:
    """The statements of a file of ``package`` by name; ``{RUN}`` becomes ``columns["RUN"]``."""
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    parts = _HEADER.split(text)
    names, bodies = parts[1::2], parts[2::2]
    found = {name: _fill(_strip(body), columns) for name, body in zip(names, bodies, strict=True)}
    if len(found) != len(names):
        raise ValueError(f"{package}/{file} names a statement twice")
    return found


def _strip(body: str) -> str:
    lines = [line for line in body.splitlines() if not line.lstrip().startswith("--")]
    return "\n".join(lines).strip().rstrip(";")


def _fill(sql: str, columns: dict[str, str]) -> str:
    for word, names in columns.items():
        sql = sql.replace(f"{{{word}}}", names)
    return sql


def migrations(package: str) -> list[tuple[int, str]]:
    """The numbered migrations of ``package``, in order."""
    folder = resources.files(package).joinpath("migrations")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return [(int(entry.name.split("_")[0]), entry.read_text(encoding="utf-8")) for entry in files]
