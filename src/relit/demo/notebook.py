"""The auditor's notes in its home: a page for each distribution, and an index of all of them in a SQLite database."""

from __future__ import annotations

import os
import sqlite3  # noqa: TID251 - an agent is a program of its own, and this database is not in WAL mode
from contextlib import closing
from pathlib import Path

import msgspec

from relit.demo.licences import Verdict

_WAIT_S = 10.0  # for another process that writes the index
_TABLE = "CREATE TABLE IF NOT EXISTS verdicts (distribution TEXT PRIMARY KEY, verdict TEXT NOT NULL)"


class Notebook:
    """The folder ``notes`` of a home. To write the same again changes nothing."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "notes"
        self._index = self.folder / "index.db"

    def write(self, verdict: Verdict) -> str:
        """Write the page of one distribution; it is there whole or not at all."""
        self.folder.mkdir(exist_ok=True)
        page = self.folder / f"{verdict.distribution}.md"
        draft = page.with_suffix(".part")
        draft.write_text(text(verdict))
        os.replace(draft, page)
        return page.name

    def enter(self, verdict: Verdict) -> None:
        """Enter the verdict in the index."""
        self.folder.mkdir(exist_ok=True)
        row = (verdict.distribution, msgspec.json.encode(verdict).decode())
        with closing(sqlite3.connect(self._index, timeout=_WAIT_S)) as database, database:
            database.execute(_TABLE)
            database.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", row)

    def pages(self) -> dict[str, str]:
        """The pages' texts by distribution; those that vanish meanwhile are left out."""
        found = {}
        for page in self.folder.glob("*.md"):
            try:
                found[page.stem] = page.read_text()
            except FileNotFoundError:
                continue
        return found

    def index(self) -> dict[str, Verdict]:
        """What the index says, by distribution."""
        if not self._index.exists():
            return {}
        with closing(sqlite3.connect(self._index, timeout=_WAIT_S)) as database:
            rows = database.execute("SELECT distribution, verdict FROM verdicts").fetchall()
        return {name: msgspec.json.decode(verdict, type=Verdict) for name, verdict in rows}


def text(verdict: Verdict) -> str:
    """A page."""
    lines = [f"# {verdict.distribution}", "", f"Licence: {verdict.licence} ({verdict.kind})", ""]
    lines += [f"- {finding.code}: {finding.text}" for finding in verdict.findings] or ["Nothing to remark."]
    return "\n".join(lines) + "\n"
