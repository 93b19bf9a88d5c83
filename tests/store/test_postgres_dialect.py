"""What holds the two dialects together: the same statements, the same tables."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import asyncpg
import pytest

from relit.store.sql import rows, statements
from relit.store.sql.postgres.sql import PACKAGE as POSTGRES
from relit.store.sql.postgres.sql import load, parse
from relit.store.sql.postgres.store import PostgresStore
from relit.store.sql.sqlite.connection import PACKAGE as SQLITE
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.wakeups import Wakeups
from relit.testing.postgres import Postgres

_HEADER = re.compile(r"^-- name: (\w+)\n-- params:(.*)$", re.MULTILINE)


def headers(package: str) -> dict[str, list[str]]:
    text = "\n".join(file.read_text() for file in statements.sql_files(package, "queries"))
    return {
        name: [word.strip() for word in params.split(",") if word.strip()] for name, params in _HEADER.findall(text)
    }


def test_both_dialects_define_the_same_statements() -> None:
    sqlite, postgres = statements.load(SQLITE, rows.COLUMNS), statements.load(POSTGRES, rows.COLUMNS)
    assert list(sqlite) == list(postgres), "the same names in the same order"


def test_both_dialects_give_the_same_parameters() -> None:
    assert headers(SQLITE) == headers(POSTGRES)
    assert headers(POSTGRES).keys() == statements.load(POSTGRES, rows.COLUMNS).keys()


def test_statements_take_the_parameters_they_declare() -> None:
    for name, params in headers(POSTGRES).items():
        statement = load()[name]
        used = {int(number) for number in re.findall(r"\$(\d+)", statement.text)}
        assert used == set(range(1, len(params) + 1)), name


def test_a_batchs_rows_are_arrays_with_their_numbers() -> None:
    statement = parse("WITH {rows a text, b bigint} SELECT a FROM b")
    assert statement.columns == 2
    assert "unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS b(a, b, i)" in statement.text


@pytest.mark.postgres
async def test_every_statement_is_one_that_the_schema_understands(postgres: Postgres) -> None:
    store = await fresh(postgres, "understood")
    connection = await asyncpg.connect(store[1], server_settings={"search_path": "understood"})
    for statement in load().values():
        await connection.prepare(statement.text)
    await connection.close()
    await store[0].stop()


async def fresh(postgres: Postgres, schema: str) -> tuple[PostgresStore, str]:
    url = postgres.create_database()
    store = PostgresStore(url, schema=schema)
    await store.start()
    return store, url


@pytest.mark.postgres
async def test_migrations_of_both_dialects_make_the_same_tables(postgres: Postgres, tmp_path: Path) -> None:
    store, url = await fresh(postgres, "tables")
    await store.stop()
    connection = await asyncpg.connect(url)
    found = await connection.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'tables'"
    )
    await connection.close()
    own = {("commits", "writer"), ("commits", "n"), ("commits", "at"), ("events", "xid")}
    renamed = {("events", "n"): ("events", "id")}  # SQLite counts events; PostgreSQL orders them by xid, then n
    columns = {tuple(row) for row in found} - own
    assert {renamed.get(column, column) for column in columns} == await sqlite_columns(tmp_path)


async def sqlite_columns(folder: Path) -> set[tuple[str, str]]:
    store = SqliteStore(folder / "relit.db", wakeups=Wakeups())
    await store.start()
    await store.stop()
    connection = apsw.Connection(str(folder / "relit.db"))
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    names = {
        (table, row[1])
        for table in tables
        if not table.startswith("sqlite_")
        for row in connection.execute(f"PRAGMA table_info({table})")
    }
    connection.close()
    return names


@pytest.mark.postgres
async def test_partial_indexes_are_the_same_in_both_dialects(postgres: Postgres, tmp_path: Path) -> None:
    store, url = await fresh(postgres, "indexes")
    await store.stop()
    connection = await asyncpg.connect(url)
    found = await connection.fetch(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'indexes' AND indexname NOT LIKE '%key'"
    )
    await connection.close()
    await sqlite_columns(tmp_path)
    file = apsw.Connection(str(tmp_path / "relit.db"))
    wanted = {row[0] for row in file.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")}
    file.close()
    assert {row[0] for row in found if not row[0].endswith("_pkey")} == wanted
