"""relit's schema in a PostgreSQL database: made, brought up to date, or refused."""

from __future__ import annotations

import asyncpg

from relit.errors import SchemaTooNew, StoreCorrupt
from relit.store.sql import statements
from relit.store.sql.postgres.connection import Address
from relit.store.sql.postgres.sql import PACKAGE, Statement

_LOCK = 0x52454C49  # "RELI": only one process migrates at a time


async def migrate(connection: asyncpg.Connection, address: Address, sql: dict[str, Statement]) -> None:
    """Bring the schema up to date. Raises SchemaTooNew, StoreCorrupt."""
    newest = statements.migrations(PACKAGE)[-1][0]
    if await _version(connection, address, sql) == newest:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{address.schema}"')
        await connection.execute("CREATE TABLE IF NOT EXISTS meta (key text PRIMARY KEY, value text NOT NULL)")
        have = await _version(connection, address, sql)
        for number, script in statements.migrations(PACKAGE):
            if number > have:
                await connection.execute(script)
        await connection.execute(
            "INSERT INTO meta (key, value) VALUES ('schema_version', $1) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            str(newest),
        )


async def _version(connection: asyncpg.Connection, address: Address, sql: dict[str, Statement]) -> int:
    tables, ours = await connection.fetchrow(sql["schema_tables"].text, address.schema)
    if not tables:
        return 0
    if not ours:
        raise StoreCorrupt(
            f"cannot use the schema {address.schema} of {address}",
            why="it holds tables of another program",
            fix="use a database of relit's own: createdb relit",
        )
    version = int(await connection.fetchval("SELECT value FROM meta WHERE key = 'schema_version'") or 0)
    newest = statements.migrations(PACKAGE)[-1][0]
    if version > newest:
        raise SchemaTooNew(
            f"cannot use {address}",
            why=f"its schema is version {version}; this relit knows up to {newest}, and downgrades are refused",
            fix="pip install --upgrade relit",
        )
    return version
