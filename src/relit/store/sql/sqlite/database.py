"""Group commit on SQLite.

One thread owns the writing connection. It takes everything that waits, gives each operation a SAVEPOINT inside one
``BEGIN IMMEDIATE`` transaction, and commits once: a hundred callers share an fsync. An operation that fails undoes
only itself; one that is alone needs no SAVEPOINT for that. After FULL, IOERR or NOMEM nothing of the batch is trusted:
all of it is undone and every caller told.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import re
import threading
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from relit.errors import StoreUnavailable
from relit.lib.clock import Clock
from relit.lib.crashpoints import point
from relit.lib.proc import boot_id
from relit.store.sql import rows, statements
from relit.store.sql.sqlite.connection import CACHE_KIB, FATAL, PACKAGE, migrate, open_connection, translate
from relit.store.sql.tx import Op, Row, WholeOpFailed

log = logging.getLogger("relit.store")
READERS = 2
_READER_KIB = 4096
MOST_AT_ONCE = 2000
CHECKPOINT_PAGES = 1000  # SQLite's own default
_ANSWERS = re.compile(r"\bRETURNING\b|^\s*(SELECT|WITH)\b")


class _Marks(NamedTuple):
    """What is said around an operation, and to undo it."""

    begin: str
    undo: str
    end: str


_ALONE = _Marks("", "ROLLBACK; BEGIN IMMEDIATE", "")
_AMONG = _Marks("SAVEPOINT op", "ROLLBACK TO op", "RELEASE op")


class _Waiting:
    """An operation and whom to tell."""

    __slots__ = ("future", "loop", "op")

    def __init__(self, op: Op, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self.op = op
        self.loop = loop
        self.future = future


class SqliteTx:
    """One transaction; see ``relit.store.sql.tx.Tx``."""

    def __init__(self, connection: apsw.Connection, sql: dict[str, str], clock: Clock) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._sql = sql
        self.now = clock.now_ms()
        self.lease_now = clock.boot_ms()
        self.lease_boot = boot_id()
        self.topics: set[str] = set()

    async def many(self, name: str, rows: Sequence[Row]) -> list[Row]:
        sql, execute = self._sql[name], self._execute
        if len(rows) > 1 and _ANSWERS.search(sql) is None:
            self._executemany(sql, rows)
            return []
        return [(i, *found) for i, row in enumerate(rows) for found in execute(sql, row)]


class SqliteDatabase:
    """``relit.store.sql.tx.Database`` on one file."""

    def __init__(
        self, path: Path, clock: Clock, announce: Callable[[Collection[str]], None], cache_kib: int = CACHE_KIB
    ) -> None:
        self._path = path
        self._cache_kib = cache_kib
        self._clock = clock
        self._announce = announce
        self._sql = statements.load(PACKAGE, rows.COLUMNS)
        self._inbox: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._reading: list[apsw.Connection] = []
        self._logged = 0  # pages in the write-ahead log
        self._complained = False

    async def start(self) -> None:
        """Open and migrate the file."""
        connection = await asyncio.to_thread(self._open)
        self._writer = threading.Thread(target=self._write_loop, args=(connection,), name="relit-writer", daemon=True)
        self._writer.start()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="relit-reader")

    def _open(self) -> apsw.Connection:
        connection = open_connection(self._path, self._cache_kib)
        migrate(connection, self._path)
        connection.set_wal_hook(self._note_log)
        return connection

    def _note_log(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._logged = pages
        return apsw.SQLITE_OK

    async def stop(self) -> None:
        """Commit what waits, then close."""
        writer, self._writer = self._writer, None
        readers, self._readers = self._readers, None
        if writer is not None:
            self._inbox.put(None)
            await asyncio.to_thread(writer.join)
        if readers is not None:
            await asyncio.to_thread(readers.shutdown)
            for connection in self._reading:
                connection.close()

    async def now_ms(self) -> int:
        return self._clock.now_ms()

    # --- writing -----------------------------------------------------------------------------------------------

    async def write(self, op: Op) -> Any:
        if self._writer is None:
            raise StoreUnavailable(f"cannot write {self._path}", why="the store is not started, or was stopped")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._inbox.put(_Waiting(op, loop, future))
        return await future

    def _write_loop(self, connection: apsw.Connection) -> None:
        going = True
        while going:
            batch = self._take()
            going = None not in batch
            waiting = [item for item in batch if item is not None]
            if waiting:
                self._commit(connection, waiting)
                self._checkpoint(connection)
        connection.close()

    def _checkpoint(self, connection: apsw.Connection) -> None:
        """Bring a long log into the file. By itself SQLite does it within the commit, and all would wait for it."""
        if self._logged < CHECKPOINT_PAGES:
            return
        self._logged = 0
        try:
            connection.wal_checkpoint()
            self._complained = False
        except apsw.Error as error:  # nothing is lost: the log stays, and grows until it can be done
            if not self._complained:
                log.warning("the log of %s was not brought into it, and grows: %s", self._path, error)
            self._complained = True

    def _take(self) -> list[_Waiting | None]:
        batch = [self._inbox.get()]
        try:
            while len(batch) < MOST_AT_ONCE and batch[-1] is not None:
                batch.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _commit(self, connection: apsw.Connection, batch: list[_Waiting]) -> None:
        topics: Collection[str] = ()
        try:
            results, topics = self._transact(connection, batch)
        except apsw.Error as error:
            results = [translate(error, self._path)] * len(batch)
        # A broken operation must not end the writer: its callers are told, the next batch goes on.
        except Exception as error:  # noqa: BLE001
            results = [error] * len(batch)
        self._tell(batch, results)
        if topics:
            self._announce(topics)

    def _transact(self, connection: apsw.Connection, batch: list[_Waiting]) -> tuple[list[Any], Collection[str]]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            tx = SqliteTx(connection, self._sql, self._clock)
            marks = _ALONE if len(batch) == 1 else _AMONG
            results = [self._run(connection, tx, item.op, marks) for item in batch]
            point("store.commit.before")
            connection.execute("COMMIT")
            point("store.commit.after")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results, tx.topics

    def _run(self, connection: apsw.Connection, tx: SqliteTx, op: Op, marks: _Marks) -> Any:
        if marks.begin:
            connection.execute(marks.begin)
        try:
            result = _drive(op.run(tx, (op.arg,)))[0]
        except FATAL:
            raise
        except WholeOpFailed as failure:
            connection.execute(marks.undo)
            result = failure.error
        except apsw.Error as error:
            connection.execute(marks.undo)
            result = translate(error, self._path)
        # Whatever an operation raises is its caller's answer and nobody else's.
        except Exception as error:  # noqa: BLE001
            connection.execute(marks.undo)
            result = error
        if marks.end:
            connection.execute(marks.end)
        return result

    def _tell(self, batch: list[_Waiting], results: list[Any]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
        for item, result in zip(batch, results, strict=True):
            loops.setdefault(item.loop, []).append((item.future, result))
        for loop, answers in loops.items():
            try:
                loop.call_soon_threadsafe(_resolve, answers)
            except RuntimeError:  # the caller's loop is closed: it is on disk, and nobody is left to be told
                continue

    # --- reading -----------------------------------------------------------------------------------------------

    async def read(self, *queries: tuple[str, Row], few: bool = False) -> list[list[Row]]:
        if self._readers is None:
            raise StoreUnavailable(f"cannot read {self._path}", why="the store is not started, or was stopped")
        if few:
            return self._read_all(queries)
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_all, queries)

    def _read_all(self, queries: Sequence[tuple[str, Row]]) -> list[list[Row]]:
        try:
            connection = self._reader()
            if len(queries) == 1:
                [(name, row)] = queries
                return [list(connection.execute(self._sql[name], row))]
            with connection:  # a savepoint: all queries see one moment
                results = [list(connection.execute(self._sql[name], row)) for name, row in queries]
        except apsw.Error as error:
            raise translate(error, self._path) from error
        return results

    def _reader(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = open_connection(self._path, min(self._cache_kib, _READER_KIB))
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            self._reading.append(connection)
        return connection

    async def check(self) -> list[str]:
        """SQLite's own integrity check."""
        if self._readers is None:
            raise StoreUnavailable(f"cannot check {self._path}", why="the store is not started, or was stopped")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._integrity)

    def _integrity(self) -> list[str]:
        found = [str(row[0]) for row in self._reader().execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found


def _resolve(answers: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in answers:
        if future.done():  # its caller was cancelled
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _drive(operation: Coroutine[Any, Any, list[Any]] | Any) -> list[Any]:
    """Run an operation that never suspends, without a loop."""
    try:
        operation.send(None)
    except StopIteration as done:
        result: list[Any] = done.value
        return result
    raise RuntimeError("a store operation awaited something other than its transaction")
