"""How SQLite finds the catalog's rows: it keeps no figures, so that its choice is the same for any size of volume."""

from __future__ import annotations

import re

import apsw
import pytest

from relit.store.sql import statements
from relit.store.sql.rows import COLUMNS

SQLITE = "relit.store.sql.sqlite"

READS_ALL = {"snapshot_count"}


def plans() -> dict[str, list[str]]:
    """Each statement's plan."""
    connection = apsw.Connection(":memory:")
    for _, migration in statements.migrations(SQLITE):
        connection.execute(migration)
    found = {}
    for name, sql in statements.load(SQLITE, COLUMNS).items():
        parameters = max((int(number) for number in re.findall(r"\?(\d+)", sql)), default=0)
        rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * parameters)
        found[name] = [str(row[3]) for row in rows]
    return found


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("tree_of", ["SEARCH entries USING PRIMARY KEY (volume=? AND path>?)"]),
        ("tree_below", ["SEARCH entries USING PRIMARY KEY (volume=? AND path>? AND path<?)"]),
        ("segments_all", ["SEARCH segments USING PRIMARY KEY (volume=?)"]),
        ("segments_of", ["SEARCH segments USING PRIMARY KEY (volume=? AND path=?)"]),
        ("entries_fork", ["SEARCH entries USING PRIMARY KEY (volume=?)"]),
        ("entries_close", ["SEARCH entries USING PRIMARY KEY (volume=? AND path=? AND since<?)"]),
        ("entries_unstage", ["SEARCH entries USING INDEX entries_since (volume=? AND since=?)"]),
        ("entries_reopen", ["SEARCH entries USING INDEX entries_until (volume=? AND until=?)"]),
        ("segments_unstage", ["SEARCH segments USING INDEX segments_since (volume=? AND since=?)"]),
        ("segments_reopen", ["SEARCH segments USING INDEX segments_until (volume=? AND until=?)"]),
        ("entries_prune", ["SEARCH entries USING INDEX entries_until (volume=? AND until>? AND until<?)"]),
        ("segments_prune", ["SEARCH segments USING INDEX segments_until (volume=? AND until>? AND until<?)"]),
        (
            "entries_between",
            [
                "SEARCH entries USING INDEX entries_since (volume=? AND since>? AND since<?)",
                "SEARCH entries USING INDEX entries_until (volume=? AND until>? AND until<?)",
            ],
        ),
        ("chunks_at", ["SEARCH c USING PRIMARY KEY (id=?)", "SEARCH p USING PRIMARY KEY (id=?)"]),
        (
            "snapshots_now_stored",
            [
                "SEARCH snapshots USING INDEX snapshots_unstored (volume=?)",
                "SEARCH p USING INDEX packs_waiting (node=?)",
            ],
        ),
        ("position_of", ["SEARCH r USING INDEX runs_unfinished (agent=?)"]),
    ],
)
def test_rows_are_found_by_the_index_made_for_them(name: str, steps: list[str]) -> None:
    plan = plans()[name]
    assert [step for step in steps if step not in plan] == [], plan


def test_a_tree_is_read_in_order_without_sorting() -> None:
    for name in ("tree_of", "tree_below", "segments_all", "segments_of"):
        assert not [step for step in plans()[name] if "ORDER BY" in step], name


def test_no_statement_reads_a_growing_table_from_end_to_end() -> None:
    found = plans()
    whole = re.compile(r"SCAN (entries|segments|chunks|snapshots|tags|s|c|t)\b(?! USING INDEX snapshots_un)")
    catalog = {name for name, plan in found.items() if re.match(r"(entr|segm|chunk|snap|tag|tree|hist|pack)", name)}
    scans = {name for name in catalog if any(whole.match(step) for step in found[name])}
    assert scans == READS_ALL, {name: found[name] for name in scans ^ READS_ALL}
