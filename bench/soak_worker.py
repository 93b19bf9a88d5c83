"""The worker of the kill storm: steps that leave a witness, an effect with an idempotency key."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import relit
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.ticker import Ticker
from relit.durable.worker import Worker
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.sql.store import SqlStore

STEPS = 5
LEASE_MS = 1_000
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")


def witness(what: str) -> None:
    fd = os.open(FOLDER / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{what}\n".encode())
    os.close(fd)


async def think(number: int, k: int) -> str:
    witness(f"step {number} {k}")
    await asyncio.sleep(0.01)
    return "x" * 200


async def deliver(number: int, *, idempotency_key: str) -> str:
    await asyncio.sleep(0.005)
    try:
        os.close(os.open(FOLDER / "sink" / idempotency_key, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        witness(f"repeated {number}")
    return idempotency_key


@relit.workflow(agent="soak", name="work")
async def work(ctx: relit.Context, number: int) -> str:
    for k in range(STEPS):
        await ctx.step(think, number, k)
    await ctx.sleep("50ms")
    return await ctx.effect(deliver, number, doubt="key", timeout="1s")


WORKFLOW = work.target


async def open_engine(folder: Path, database: str) -> Engine:
    store: SqlStore
    if database == "sqlite":
        store = SqliteStore(folder / "relit.db")
    else:
        from relit.store.sql.postgres.store import PostgresStore

        store = PostgresStore(database)
    await store.start()
    return Engine(store, Payloads(None))


async def main() -> None:
    engine = await open_engine(FOLDER, sys.argv[2])
    worker = Worker(engine, [work], concurrency=50, lease_ms=LEASE_MS, poison_after=1000)
    ticker = Ticker(engine.store, poison_after=1000)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await ticker.start()
    await worker.start()
    await stop.wait()
    await worker.stop()
    await ticker.stop()
    await engine.store.stop()


if __name__ == "__main__":
    asyncio.run(main())
