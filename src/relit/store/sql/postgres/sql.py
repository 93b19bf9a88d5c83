"""The dialect's statements, ready for asyncpg."""

from __future__ import annotations

import re

import msgspec

from relit.store.sql import rows, statements

PACKAGE = "relit.store.sql.postgres"
_ROWS = re.compile(r"\{rows ([^}]*)\}")


class Statement(msgspec.Struct, frozen=True):
    """``columns`` is how many arrays it takes for a whole batch; 0: it is executed for each row."""

    text: str
    columns: int


def load() -> dict[str, Statement]:
    """All statements by name: the shared ones and those of PostgreSQL alone."""
    shared = statements.load(PACKAGE, rows.COLUMNS)
    own = statements.load(PACKAGE, rows.COLUMNS, "session")
    return {name: parse(text) for name, text in (shared | own).items()}


def parse(text: str) -> Statement:
    """Spell out ``{rows a text, b bigint}``: the CTE ``b`` of a batch's rows, numbered from 1."""
    match = _ROWS.search(text)
    if match is None:
        return Statement(text, 0)
    pairs = [part.split() for part in match[1].split(",")]
    arrays = ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(pairs, 1))
    names = ", ".join(name for name, _ in pairs)
    unnest = f"b AS (SELECT * FROM unnest({arrays}) WITH ORDINALITY AS b({names}, i))"
    return Statement(text[: match.start()] + unnest + text[match.end() :], len(pairs))
