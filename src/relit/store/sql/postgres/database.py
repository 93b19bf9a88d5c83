"""``relit.store.sql.tx.Database`` on PostgreSQL: one writing connection, a few reading ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg

from relit.errors import StoreUnavailable
from relit.lib import backoff
from relit.lib.ids import system_random
from relit.store.sql.postgres.connection import FAILED, Address
from relit.store.sql.postgres.schema import migrate
from relit.store.sql.postgres.sql import Statement, load
from relit.store.sql.postgres.wakeups import PostgresWakeups
from relit.store.sql.postgres.writer import Writer
from relit.store.sql.tx import Op, Row

READERS = 4
_SOON = 0.05
_LATER = 1.0

T = TypeVar("T")


class Readers:
    """At most ``count`` connections, made when needed; one on which something failed is not used again."""

    def __init__(self, address: Address, count: int) -> None:
        self._address = address
        self._places = asyncio.Semaphore(count)
        self._idle: list[asyncpg.Connection] = []

    async def use(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Do ``work`` on a connection of its own."""
        async with self._places:
            connection = self._idle.pop() if self._idle else await self._address.connect()
            try:
                result = await work(connection)
            except BaseException:
                connection.terminate()
                raise
            self._idle.append(connection)
            return result

    def close(self) -> None:
        """Drop the idle connections."""
        while self._idle:
            self._idle.pop().terminate()


class PostgresDatabase:
    """See ``relit.store.sql.tx.Database``. It belongs to the event loop in which it was started."""

    def __init__(self, address: Address, wakeups: PostgresWakeups, patience: float) -> None:
        self._address = address
        self._wakeups = wakeups
        self._patience = patience
        self._sql: dict[str, Statement] = load()
        self._readers: Readers | None = None
        self._writer = Writer(address, self._sql, wakeups, patience)
        self._chance = system_random()
        self._reminder: asyncio.TimerHandle | None = None
        self._remind_after = _SOON

    async def start(self) -> None:
        """Connect and migrate."""
        if self._readers is not None:
            return
        connection = await self._address.connect()
        try:
            await migrate(connection, self._address, self._sql)
        except FAILED as error:
            raise self._address.translate(error, "set up") from error
        finally:
            connection.terminate()
        await self._writer.start()
        self._readers = Readers(self._address, READERS)

    async def stop(self) -> None:
        """Commit what waits, then close. Safe twice."""
        await self._writer.stop()
        readers, self._readers = self._readers, None
        if readers is not None:
            readers.close()
        if self._reminder is not None:
            self._reminder.cancel()
            self._reminder = None

    async def write(self, op: Op) -> Any:
        return await self._writer.write(op)

    async def now_ms(self) -> int:
        return int((await self.read(("clock", ())))[0][0][0])

    async def check(self) -> list[str]:
        """What PostgreSQL itself knows to be broken."""
        return [str(row[0]) for row in (await self.read(("broken_indexes", ())))[0]]

    # --- reading -------------------------------------------------------------------------------------------------

    async def read(self, *queries: tuple[str, Row], few: bool = False) -> list[list[Row]]:
        """Named statements in one consistent view; tried again while the database is away, up to patience."""
        loop = asyncio.get_running_loop()
        end, attempt = loop.time() + self._patience, 0
        while True:
            if self._readers is None:
                raise StoreUnavailable(f"cannot read {self._address}", why="the store is not started, or was stopped")
            try:
                return await self._readers.use(lambda connection: self._fetch(connection, queries))
            except (StoreUnavailable, *FAILED) as error:
                found = error if isinstance(error, StoreUnavailable) else self._address.translate(error, "read")
                if not isinstance(found, StoreUnavailable) or loop.time() > end:
                    raise found from error
            attempt += 1
            await asyncio.sleep(backoff.delay(attempt, first=0.02, factor=2, most=1, jitter=0.5, chance=self._chance))

    async def _fetch(self, connection: asyncpg.Connection, queries: Sequence[tuple[str, Row]]) -> list[list[Row]]:
        if len(queries) == 1:
            return [await self._rows(connection, *queries[0])]
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return [await self._rows(connection, name, row) for name, row in queries]

    async def _rows(self, connection: asyncpg.Connection, name: str, row: Row) -> list[Row]:
        return [tuple(found) for found in await connection.fetch(self._sql[name].text, *row)]

    async def look_again_for_events(self) -> None:
        """A transaction that is still open hides later events from readers. Its end is not announced as such, so
        wake the readers of events again as long as some are hidden."""
        if self._reminder is not None:
            return
        if not (await self.read(("events_pending", ())))[0][0][0]:
            self._remind_after = _SOON
        elif self._reminder is None:
            self._reminder = asyncio.get_running_loop().call_later(self._remind_after, self._remind)
            self._remind_after = min(_LATER, self._remind_after * 2)

    def _remind(self) -> None:
        self._reminder = None
        self._wakeups.announce({"events"})
