"""Wake-ups between processes that share a database: LISTEN on one channel, topics as payload.

The announcing side is part of the batch that it tells of (``notify`` in its transaction), so a wake-up is neither
early nor lost. A listener that was cut off wakes everyone when it is back: nobody knows what it missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import asyncpg

from relit.errors import ConfigError, StoreError
from relit.lib import backoff
from relit.lib.ids import system_random
from relit.lib.service import Tasks
from relit.store.sql.postgres.connection import Address
from relit.store.wakeups import EVERYTHING, Wakeups

_MOST_BYTES = 7_900  # PostgreSQL refuses 8000


def notify(schema: str, topics: Collection[str]) -> str:
    """The statement that announces ``topics`` at commit; empty when there are none."""
    if not topics:
        return ""
    payload = "\n".join(topics)
    if len(payload.encode()) > _MOST_BYTES:
        payload = EVERYTHING
    quoted = payload.replace("'", "''")
    return f"NOTIFY {channel(schema)}, '{quoted}'; "


def channel(schema: str) -> str:
    """The channel of a schema: stores in one database do not wake each other."""
    return f"{schema}_wake"


class PostgresWakeups(Wakeups):
    """Topics within this process and among all that listen to the same database and schema."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address
        self._tasks: Tasks | None = None
        self._connection: asyncpg.Connection | None = None
        self._ended = asyncio.Event()
        self._chance = system_random()
        self.own: int | None = None  # the writer's backend: what it says was announced here already

    async def start(self) -> None:
        """Listen, and go on listening whatever happens to the connection."""
        if self._tasks is not None:
            return
        await self._listen()
        self._tasks = Tasks(lambda error: self.announce({EVERYTHING}))
        self._tasks.spawn(self._watch(), "relit-listener")

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, None
        if tasks is not None:
            await tasks.stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._cut)
            connection.terminate()

    async def _listen(self) -> None:
        self._ended.clear()
        connection = await self._address.connect()
        try:
            connection.add_termination_listener(self._cut)
            await connection.add_listener(channel(self._address.schema), self._heard)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _watch(self) -> None:
        while True:
            await self._ended.wait()
            await self._again()
            self.announce({EVERYTHING})

    async def _again(self) -> None:
        attempt = 0
        while True:
            try:
                return await self._listen()
            except (StoreError, ConfigError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                attempt += 1
                pause = backoff.delay(attempt, first=0.05, factor=2, most=5, jitter=0.5, chance=self._chance)
                await asyncio.sleep(pause)

    def _cut(self, connection: Any) -> None:
        self._ended.set()

    def _heard(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        if pid != self.own:
            self.announce(str(payload).split("\n"))
