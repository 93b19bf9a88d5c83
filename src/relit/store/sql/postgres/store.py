"""The store in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Sequence

from relit.events import Event
from relit.store.sql.postgres.connection import Address
from relit.store.sql.postgres.database import PostgresDatabase
from relit.store.sql.postgres.wakeups import PostgresWakeups
from relit.store.sql.store import SqlStore


class PostgresStore(SqlStore):
    """``dsn``: as libpq reads it (``postgresql://user:password@host/database?sslmode=verify-full``).

    Everything lives in ``schema``. While the database is away, writes and reads wait up to ``patience`` seconds and
    then raise ``StoreUnavailable``; a write whose COMMIT got no answer waits until it is known what became of it.
    """

    def __init__(self, dsn: str, *, schema: str = "relit", patience: float = 30.0) -> None:
        address = Address(dsn, schema)
        wakeups = PostgresWakeups(address)
        self._postgres = PostgresDatabase(address, wakeups, patience)
        super().__init__(self._postgres, wakeups)

    async def events(self, after: str = "", limit: int = 500, names: Sequence[str] = ()) -> list[Event]:
        found = await super().events(after, limit, names)
        if len(found) < limit:
            await self._postgres.look_again_for_events()
        return found
