"""What the conformance suite's tests share: short ways to make workers, runs and steps, and a clock to move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg

from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.ids import new_id
from relit.store.base import Store
from relit.store.values import Effect, Fence, Finish, NewRun, Run, Step, Wait, WorkerInfo

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class MovedClock:
    """The machine's clocks, moved: what SQLite's store is handed."""

    def __init__(self) -> None:
        self.offset = 0

    def now_ms(self) -> int:
        return SYSTEM_CLOCK.now_ms() + self.offset

    def boot_ms(self) -> int:
        return SYSTEM_CLOCK.boot_ms() + self.offset

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic() + self.offset / 1000


class SqliteTime:
    """Moves the clock of a store on SQLite."""

    def __init__(self, clock: MovedClock) -> None:
        self._clock = clock

    async def advance(self, ms: int) -> None:
        self._clock.offset += ms


class PostgresTime:
    """Moves the clock of a store on PostgreSQL, for every process that uses it."""

    def __init__(self, url: str, schema: str) -> None:
        self._url = url
        self._schema = schema

    async def advance(self, ms: int) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(
                f"INSERT INTO {self._schema}.meta AS m VALUES ('clock_offset_ms', $1) "
                "ON CONFLICT (key) DO UPDATE SET value = (m.value::bigint + excluded.value::bigint)::text",
                str(ms),
            )
        finally:
            await connection.close()


Time = SqliteTime | PostgresTime
OpenStore = Callable[[], Store]


def new_run(**options: Any) -> NewRun:
    return NewRun(**({"id": new_id(), "agent": "a", "workflow": "w", "input": b"in"} | options))


def message(**options: Any) -> NewRun:
    """A run in a mailbox."""
    return new_run(**({"workflow": "message", "kind": "message", "mailbox": "a"} | options))


def step(seq: int, **options: Any) -> Step:
    given = {"seq": seq, "pos": str(seq), "kind": "step", "name": "s", "hash": b"h"}
    if "error" not in options:
        given["result"] = b"r"
    return Step(**(given | options))


def effect(run: str, pos: str = "1", **options: Any) -> Effect:
    given = {"run": run, "pos": pos, "name": "pay", "doubt": "ask", "key": "k", "state": "open", "hash": b"h"}
    return Effect(**(given | options))


def signal_wait(name: str = "go", **options: Any) -> Wait:
    return Wait(**({"pos": "1", "kind": "signal", "name": name} | options))


def fence(run: Run) -> Fence:
    return Fence(run.id, run.epoch)


COMPLETED = Finish(state="completed", output=b"out")


async def join(store: Store, name: str = "worker", *targets: str, lease_ms: int = HOUR) -> str:
    wanted = list(targets or ("a/w", "a/message"))
    info = WorkerInfo(id=name, host="h", pid=7, start=8, boot="b", namespace="n", targets=wanted)
    await store.join(info, lease_ms)
    return name


async def add(store: Store, **options: Any) -> str:
    return (await store.enqueue([new_run(**options)]))[0].id


async def claim(store: Store, worker: str = "worker", limit: int = 100, **options: Any) -> list[Run]:
    return await store.claim(worker, ["a/w", "a/message"], limit, **options)


async def running(store: Store, **options: Any) -> Run:
    """A run that a worker has claimed."""
    await join(store)
    await add(store, **options)
    return (await claim(store, limit=1))[0]


async def waiting(store: Store, *waits: Wait, **options: Any) -> Run:
    """A run that waits."""
    run = await running(store, **options)
    assert await store.suspend(fence(run), list(waits) or [signal_wait()], "signal")
    return await store.run(run.id)


async def ended(store: Store, state: str = "completed", **options: Any) -> Run:
    """A run that has ended."""
    run = await running(store, **options)
    await store.finish(fence(run), Finish(state=state, reason="because"))  # type: ignore[arg-type]
    return await store.run(run.id)


async def states(store: Store, ids: list[str]) -> list[str]:
    return [(await store.run(id_)).state for id_ in ids]


async def event_names(store: Store, run: str | None = None) -> list[str]:
    return [event.name for event in await store.events() if run is None or event.run == run]
