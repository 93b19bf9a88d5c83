"""Group commit on PostgreSQL.

One connection writes. Everything that waits when it is free goes into one transaction, each statement once with
arrays. Three kinds of trouble, three answers:

- A statement or an operation fails: roll back, and commit the halves of the batch apart, so that in the end the
  operation at fault fails alone.
- A deadlock or a serialization failure: the same batch again.
- The connection is lost: connect again. Before COMMIT was sent nothing can have been written: the same batch again.
  After that the batch's number in ``commits`` tells, and the look-up waits for the old connection's transaction.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import asyncpg

from relit.errors import ConfigError, StoreError, StoreUnavailable
from relit.lib import backoff
from relit.lib.crashpoints import point
from relit.lib.ids import new_id, system_random
from relit.lib.service import Tasks
from relit.store.sql.postgres.connection import AGAIN, FAILED, FULL, Address, is_lost
from relit.store.sql.postgres.sql import Statement
from relit.store.sql.postgres.transaction import PostgresTx, grouped, to_lock
from relit.store.sql.postgres.wakeups import PostgresWakeups, notify
from relit.store.sql.tx import Op, WholeOpFailed

MOST_AT_ONCE = 1000
MOST_TRIES = 20
WEEK_MS = 7 * 86_400_000


class _Waiting:
    """An operation, whom to tell, and since when it waits (loop time)."""

    __slots__ = ("future", "op", "since")

    def __init__(self, op: Op, future: asyncio.Future[Any], since: float) -> None:
        self.op = op
        self.future = future
        self.since = since

    def tell(self, result: Any) -> None:
        if self.future.done():  # its caller was cancelled
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class _Refused(Exception):
    """The transaction was rolled back because of ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _NotWritten(Exception):
    """The connection was lost and nothing was written; there is a new connection."""


class Writer:
    """The one connection of this process that writes."""

    def __init__(self, address: Address, sql: dict[str, Statement], wakeups: PostgresWakeups, patience: float) -> None:
        self._address = address
        self._sql = sql
        self._wakeups = wakeups
        self._patience = patience
        self._name = new_id()
        self._batches = 0
        self._inbox: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._closing = True
        self._connection: asyncpg.Connection | None = None
        self._tasks = Tasks(lambda error: None)  # the loop below tells its callers of every error itself
        self._loop_task: asyncio.Task[None] | None = None
        self._chance = system_random()

    async def start(self) -> None:
        """Connect and begin to commit."""
        connection = await self._connect()
        await connection.execute(self._sql["writers_forget"].text, WEEK_MS)
        self._closing = False
        self._loop_task = self._tasks.spawn(self._write_loop(), "relit-writer")

    async def stop(self) -> None:
        """Commit what waits, then close. Safe twice."""
        self._closing = True
        self._news.set()
        if self._loop_task is not None:
            await asyncio.wait([self._loop_task])
            self._loop_task = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def write(self, op: Op) -> Any:
        """Execute ``op`` in the next commit."""
        if self._closing:
            raise self._stopped()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(op, loop.create_future(), loop.time())
        self._inbox.append(waiting)
        self._news.set()
        return await waiting.future

    def _stopped(self) -> StoreUnavailable:
        return StoreUnavailable(f"cannot write to {self._address}", why="the store is not started, or was stopped")

    async def _connect(self) -> asyncpg.Connection:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        connection = await self._address.connect()
        try:
            await connection.execute(self._sql["writer_add"].text, self._name)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        self._wakeups.own = connection.get_server_pid()
        return connection

    # --- committing ----------------------------------------------------------------------------------------------

    async def _write_loop(self) -> None:
        while self._inbox or not self._closing:
            if not self._inbox:
                self._news.clear()
                await self._news.wait()
                continue
            count = min(len(self._inbox), MOST_AT_ONCE)
            batch = [self._inbox.popleft() for _ in range(count)]
            try:
                await self._settle(batch)
            # A broken operation must not end the writer: its callers are told, the next batch goes on.
            except Exception as error:  # noqa: BLE001
                _tell_all(batch, error)

    async def _settle(self, batch: list[_Waiting]) -> None:
        """See the batch through: every caller has an answer afterwards."""
        parts, tries = [batch], 0
        while parts:
            part = [waiting for waiting in parts.pop() if not waiting.future.done()]
            try:
                if part:
                    await self._commit(part)
            except _NotWritten:
                parts.append(part)
            except _Refused as refused:
                tries += 1
                if isinstance(refused.error, AGAIN) and tries < MOST_TRIES:
                    await self._pause(tries, first=0.005, most=0.2)
                    parts.append(part)
                elif len(part) == 1 or isinstance(refused.error, FULL):
                    _tell_all(part, self._answer(refused.error))
                else:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]

    def _answer(self, error: Exception) -> Exception:
        if isinstance(error, WholeOpFailed):
            return error.error
        if isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError)):
            answer = self._address.translate(error)
            answer.__cause__ = error
            return answer
        return error

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        """One transaction. Raises _Refused or _NotWritten when nothing of it was written."""
        self._batches += 1
        connection = self._connection or await self._reconnect([*batch])
        sent = False
        try:
            await connection.execute("BEGIN")
            tx = await self._open(connection, batch)
            results = await _run(tx, [waiting.op for waiting in batch])
            point("store.commit.before")
            sent = True
            await connection.execute(notify(self._address.schema, tx.topics) + "COMMIT")
            point("store.commit.after")
        # Whatever an operation raises is its caller's answer; what matters here is whether the connection stands.
        except Exception as error:
            if not is_lost(error, connection):
                await self._roll_back(connection)
                raise _Refused(error) from error
            if not await self._committed_after_all(batch, sent):
                raise _NotWritten from error
        for waiting, result in zip(batch, results, strict=True):
            waiting.tell(result)
        if tx.topics:
            self._wakeups.announce(tx.topics)

    async def _open(self, connection: asyncpg.Connection, batch: Sequence[_Waiting]) -> PostgresTx:
        runs, ending, boxes = to_lock([waiting.op for waiting in batch])
        now, _ = await connection.fetchrow(self._sql["batch_open"].text, self._name, self._batches, runs)
        held: list[str] = []
        if ending or boxes:
            found = await connection.fetch(self._sql["batch_mailboxes"].text, ending, boxes)
            held = [row[0] for row in found]
        return PostgresTx(connection, self._sql, now, held)

    async def _roll_back(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.execute("ROLLBACK")
        except FAILED:
            connection.terminate()
            self._connection = None

    # --- a lost connection -----------------------------------------------------------------------------------------

    async def _committed_after_all(self, batch: Sequence[_Waiting], sent: bool) -> bool:
        """Connect again; whether the batch is on disk."""
        while True:
            connection = await self._reconnect([] if sent else [*batch])
            if not sent:
                return False
            try:
                last = await connection.fetchval(self._sql["writer_last"].text, self._name)
            except FAILED:
                await self._pause(1, first=0.05, most=0.05)
                continue
            return bool(last == self._batches)

    async def _reconnect(self, impatient: list[_Waiting]) -> asyncpg.Connection:
        """A new connection, however long it takes. Who waits longer than patience allows is told meanwhile, except
        the batch whose COMMIT was sent: nobody could say what became of it."""
        attempt = 0
        while True:
            try:
                return await self._connect()
            except (StoreError, ConfigError, *FAILED) as error:
                attempt += 1
                self._give_up([*impatient, *self._inbox], error)
                if self._closing or (impatient and not self._inbox and all(w.future.done() for w in impatient)):
                    raise self._stopped() from error
            await self._pause(attempt, first=0.05, most=2.0)

    def _give_up(self, waiting: list[_Waiting], error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        late = [each for each in waiting if self._closing or now - each.since > self._patience]
        if late:
            away = StoreUnavailable(
                f"cannot write to {self._address}",
                why=f"it has been away for {self._patience:.0f} s: {error}; nothing of it was written",
                fix="pg_isready; then look at the server's log",
            )
            _tell_all(late, away)
            self._inbox = deque(each for each in self._inbox if not each.future.done())

    async def _pause(self, attempt: int, *, first: float, most: float) -> None:
        await asyncio.sleep(backoff.delay(attempt, first=first, factor=2, most=most, jitter=0.5, chance=self._chance))


async def _run(tx: PostgresTx, ops: Sequence[Op]) -> list[Any]:
    """Every operation's result, in the batch's order."""
    results: list[Any] = [None] * len(ops)
    for operation, places in grouped(ops):
        answers = await operation(tx, [ops[i].arg for i in places])
        for i, answer in zip(places, answers, strict=True):
            results[i] = answer
    return results


def _tell_all(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        waiting.tell(error)
