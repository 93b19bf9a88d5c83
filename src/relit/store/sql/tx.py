"""What an operation sees of a database, whichever it is.

An operation is an ``async`` function of a transaction and a *batch* of arguments; it answers one result for each, in
order. A result that is an exception means that nothing of that one was written. PostgreSQL gives it a whole batch
and executes each statement once with arrays; SQLite gives it one at a time, inside a SAVEPOINT, and never suspends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

Row = tuple[Any, ...]


class Tx(Protocol):
    """An open transaction. ``now``: the store's wall clock. Leases go by ``lease_now`` in boot ``lease_boot``."""

    now: int
    lease_now: int
    lease_boot: str
    topics: set[str]  # announced once the transaction is on disk

    async def many(self, name: str, rows: Sequence[Row]) -> list[Row]:
        """Execute a named statement for each row: every result row comes with its input row's index in front."""
        ...


Operation = Callable[[Tx, Sequence[Any]], Awaitable[list[Any]]]


class Op(msgspec.Struct, frozen=True):
    """One write that waits for a commit."""

    run: Operation
    arg: Any


class WholeOpFailed(Exception):
    """Raised by an operation that had written when it failed: undo all of it and answer ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Database(Protocol):
    """A dialect: executes operations with group commit, and reads."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def write(self, op: Op) -> Any: ...

    async def read(self, *queries: tuple[str, Row], few: bool = False) -> list[list[Row]]:
        """Named statements in one consistent view. Rows come without the index.

        ``few``: a handful of rows found by their keys, which may be read without going to another thread.
        """
        ...

    async def now_ms(self) -> int: ...

    async def check(self) -> list[str]: ...
