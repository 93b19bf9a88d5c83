"""What the desk of relit.toml's gateway takes for granted."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.app import tooling
from relit.settings import Environment, load
from relit.store.sql.sqlite.store import SqliteStore

FILE = """
[server]
database = "{database}"
[models.default]
url = "https://x"
[agents.a]
kind = "hermes"
grants = ["tool:remember"]
"""


@pytest.mark.parametrize(("database", "alone"), [("sqlite", True), ("postgresql://db.example/relit", False)])
async def test_only_with_a_database_of_its_own_a_gateway_is_alone(tmp_path: Path, database: str, alone: bool) -> None:
    (tmp_path / "relit.toml").write_text(FILE.format(database=database))
    settings = load(tmp_path / "relit.toml", environment=Environment({}), data=tmp_path / "data")
    store = SqliteStore(tmp_path / "relit.db")
    await store.start()
    desk = await tooling.desk(settings, store, "g1", lambda other: False, lambda who, code, why: None)
    assert desk is not None
    assert desk._office.alone == alone
    await desk.stop()
    await store.stop()
