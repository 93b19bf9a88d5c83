"""One transaction on PostgreSQL: what an operation sees, and what a batch must lock before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import asyncpg

from relit.store.sql import journal
from relit.store.sql.postgres.sql import Statement
from relit.store.sql.tx import Op, Operation, Row
from relit.store.values import Fence, Finish, NewRun

LEASE_BOOT = "database"  # leases go by the database's clock, which outlives boots

# Ends of claims come last: what a run wrote without waiting for it must not find its own claim gone.
_LAST: tuple[Operation, ...] = (journal.suspend, journal.finish, journal.release)


class PostgresTx:
    """See ``relit.store.sql.tx.Tx``."""

    def __init__(
        self, connection: asyncpg.Connection, sql: dict[str, Statement], now: int, boxes: Iterable[str]
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._boxes = set(boxes)
        self.now = now
        self.lease_now = now
        self.lease_boot = LEASE_BOOT
        self.topics: set[str] = set()

    async def many(self, name: str, rows: Sequence[Row]) -> list[Row]:
        if not rows:
            return []
        if name in _BEFORE:
            await _BEFORE[name](self, rows)
        return await self._execute(name, rows)

    async def _execute(self, name: str, rows: Sequence[Row]) -> list[Row]:
        statement = self._sql[name]
        if statement.columns:
            return [tuple(found) for found in await self._connection.fetch(statement.text, *zip(*rows, strict=True))]
        return [
            (i, *found) for i, row in enumerate(rows) for found in await self._connection.fetch(statement.text, *row)
        ]

    async def _hold_mailboxes(self, rows: Sequence[Row]) -> None:
        wanted = sorted({row[0] for row in rows} - self._boxes)
        if wanted:
            await self._execute("hold_mailboxes", [(name,) for name in wanted])
            self._boxes.update(wanted)

    async def _hold_runs(self, rows: Sequence[Row]) -> None:
        await self._execute("hold_runs", [(row[0],) for row in rows])

    async def _passed_over(self, rows: Sequence[Row]) -> None:
        # A claim in another process passes over what we lock: let it look again after our commit.
        self.topics.add("ready")


_BEFORE = {
    "mailbox_lock": PostgresTx._hold_mailboxes,
    "parent_wake": PostgresTx._hold_runs,
    "run_lock": PostgresTx._passed_over,
}


def grouped(ops: Sequence[Op]) -> list[tuple[Operation, list[int]]]:
    """The batch's operations by kind, each with its places in the batch."""
    kinds = list(dict.fromkeys(op.run for op in ops if op.run not in _LAST))
    kinds += [kind for kind in _LAST if any(op.run is kind for op in ops)]
    places = {kind: n for n, kind in enumerate(kinds)}
    order = sorted(range(len(ops)), key=lambda i: places[ops[i].run])
    return [(kind, list(group)) for kind, group in groupby(order, key=lambda i: ops[i].run)]


def to_lock(ops: Sequence[Op]) -> tuple[list[str], list[str], list[str]]:
    """Runs that a batch writes under a fence; those of them that may free a place; mailboxes that it puts runs into."""
    runs: set[str] = set()
    ending: set[str] = set()
    boxes: set[str] = set()
    for op in ops:
        fenced: list[str] = []
        ends = False
        for part in _parts(op.arg):
            if isinstance(part, Fence):
                fenced.append(part.run)
            elif isinstance(part, Finish):
                ends = True
                part = part.next_run
            if isinstance(part, NewRun) and part.mailbox is not None:
                boxes.add(part.mailbox)
        runs.update(fenced)
        if ends:
            ending.update(fenced)
    return list(runs), list(ending), list(boxes)


def _parts(arg: Any) -> Iterable[Any]:
    if isinstance(arg, (tuple, list)):
        for part in arg:
            yield from _parts(part)
    else:
        yield arg
