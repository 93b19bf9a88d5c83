from __future__ import annotations

import re

import apsw
import pytest

from relit.store.sql import statements
from relit.store.sql.rows import COLUMNS

SQLITE = "relit.store.sql.sqlite"
POSTGRES = "relit.store.sql.postgres"


def test_both_dialects_define_the_same_statements() -> None:
    assert set(statements.load(SQLITE, COLUMNS)) == set(statements.load(POSTGRES, COLUMNS))


@pytest.mark.parametrize("package", [SQLITE, POSTGRES])
def test_every_statement_has_its_columns_filled_in(package: str) -> None:
    for name, sql in statements.load(package, COLUMNS).items():
        assert not re.search(r"\{[A-Z]+\}", sql), name


@pytest.mark.parametrize("package", [SQLITE, POSTGRES])
def test_migrations_are_numbered_without_a_gap(package: str) -> None:
    numbers = [number for number, _ in statements.migrations(package)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_statement_is_used() -> None:
    from pathlib import Path

    source = "".join(path.read_text() for path in Path(statements.__file__).parent.rglob("*.py"))
    unused = [name for name in statements.load(SQLITE, COLUMNS) if f'"{name}"' not in source]
    assert unused == []


GROWS = re.compile(r"SCAN (runs|steps|signals|events|stream|effects|calls|answers|o)\b(?! USING INDEX calls_open)")
READS_ALL = {"runs_all", "runs_like", "run_counts", "faults"}  # lists, searches and checks that people ask for
READS_ALL |= {"runs_recovered"}  # once, when a lost store came back


def test_no_write_reads_a_table_that_grows_from_end_to_end() -> None:
    connection = apsw.Connection(":memory:")
    for _, migration in statements.migrations(SQLITE):
        connection.execute(migration)
    scans: dict[str, list[str]] = {}
    for name, sql in statements.load(SQLITE, COLUMNS).items():
        parameters = max((int(number) for number in re.findall(r"\?(\d+)", sql)), default=0)
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * parameters)]
        if found := [line for line in plan if GROWS.match(line)]:
            scans[name] = found
    assert scans.keys() == READS_ALL, scans
