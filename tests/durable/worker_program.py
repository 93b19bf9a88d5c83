"""A worker process for the tests of dying workers. ``worker_program.py FOLDER [LEASE_MS]``."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import relit
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.retry import Retry
from relit.durable.ticker import Ticker
from relit.durable.worker import Worker
from relit.store.sql.sqlite.store import SqliteStore

# Tests import the workflows to name them; only the program itself executes them.
FOLDER = Path(sys.argv[1]) if __name__ == "__main__" else Path(os.devnull)
PATIENT = Retry(attempts=1)


def witness(what: str) -> None:
    fd = os.open(FOLDER / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{os.getpid()} {what}\n".encode())
    os.close(fd)


def count(n: int) -> int:
    witness(f"step {n}")
    return n


async def hold(name: str) -> str:
    """Lasts until a file of that name exists."""
    witness(f"hold {name}")
    while not (FOLDER / name).exists():
        await asyncio.sleep(0.01)
    return f"held by {os.getpid()}"


def die() -> None:
    witness("die")
    os._exit(9)


@relit.workflow(agent="test")
async def counts(ctx: relit.Context, n: int) -> int:
    total = 0
    for i in range(n):
        total += await ctx.step(count, i)
    return total


@relit.workflow(agent="test")
async def holds(ctx: relit.Context) -> str:
    await ctx.step(count, 1)
    return await ctx.step(hold, "go", retry=PATIENT)


@relit.workflow(agent="test")
async def poison(ctx: relit.Context) -> None:
    await ctx.step(count, 1)
    await ctx.step(die)


async def main(lease_ms: int) -> None:
    store = SqliteStore(FOLDER / "relit.db")
    await store.start()
    ticker = Ticker(store)
    worker = Worker(Engine(store, Payloads()), [counts, holds, poison], lease_ms=lease_ms, poison_after=3)
    await ticker.start()
    await worker.start()
    sys.stdout.write(f"{worker.id}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[2])))
