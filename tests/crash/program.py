"""The program that the crash tests kill: it uses everything that is durable, and leaves witnesses in files.

``program.py FOLDER [POINT:N]`` works until every run is final. With POINT:N it ends itself with SIGKILL when that
crash point is passed for the Nth time. Started again without, it must finish the same work.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import relit
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.schedule import Spec
from relit.durable.scheduler import Scheduler
from relit.durable.ticker import Ticker
from relit.durable.worker import Worker
from relit.errors import Conflict
from relit.lib import crashpoints
from relit.store.blobs import ObstoreBlobs
from relit.store.sql.sqlite.store import SqliteStore

FOLDER = Path(sys.argv[1])
MAIN_RUN = "main-run"
LARGE = 100_000  # bytes: goes to the blob store


def witness(what: str) -> None:
    """One line that survives SIGKILL: a step's or effect's function was really called."""
    fd = os.open(FOLDER / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{what}\n".encode())
    os.close(fd)


def acknowledged() -> bool:
    """Whether a process before this one was told that the run is on disk."""
    told = FOLDER / "witness"
    return told.exists() and f"acknowledged {MAIN_RUN}" in told.read_text().splitlines()


def deliver(key: str, what: str) -> str:
    """The outside world: honours idempotency keys."""
    witness(f"effect {what}")
    try:
        os.close(os.open(FOLDER / f"delivered-{what}-{key}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        witness(f"repeated {what}")
    return what


def square(n: int) -> int:
    witness(f"step square {n}")
    return n * n


async def large() -> str:
    witness("step large")
    return "x" * LARGE


def by_key(what: str, *, idempotency_key: str) -> str:
    return deliver(idempotency_key, what)


def by_lookup(what: str, *, idempotency_key: str) -> str:
    return deliver(idempotency_key, what)


def lookup(key: str) -> str | None:
    return "looked" if (FOLDER / f"delivered-looked-{key}").exists() else None


async def flaky(ctx: relit.Context, name: str) -> int:
    squares = [await ctx.step(square, n) for n in range(3)]
    ctx.emit({"branch": name})
    return sum(squares)


@relit.workflow(agent="crash")
async def child(ctx: relit.Context, n: int) -> int:
    await ctx.sleep("20ms")
    return await ctx.step(square, n)


@relit.agent(name="reader")
async def reader(ctx: relit.Context, message: str) -> str:
    return await ctx.effect(by_key, f"message-{message}", doubt="key")


@relit.workflow(agent="crash")
async def tick(ctx: relit.Context) -> int:
    return await ctx.step(square, 7, name="tick")


@relit.workflow(agent="crash")
async def main_work(ctx: relit.Context, rounds: int) -> dict[str, object]:
    started = ctx.now().isoformat()
    chosen = str(ctx.uuid())
    both = await ctx.gather(flaky(ctx, "left"), flaky(ctx, "right"))
    text = await ctx.step(large)
    paid = await ctx.effect(by_key, "paid", doubt="key")
    looked = await ctx.effect(by_lookup, "looked", doubt="lookup", lookup=lookup, timeout="200ms")
    await ctx.sleep("300ms")
    answer = await ctx.signal("go", type=str)
    nine = await ctx.child(child, 3)
    await ctx.send("reader", f"hello-{rounds}")
    if rounds > 1:
        ctx.continue_as_new(rounds - 1)
    return {
        "both": both, "text": len(text), "paid": paid, "looked": looked, "answer": answer, "nine": nine,
        "started": started, "chosen": chosen,
    }  # fmt: skip


def new_worker(engine: Engine) -> Worker:
    return Worker(engine, [main_work, child, reader, tick], concurrency=8, lease_ms=400, poison_after=50)


async def work_a_little(engine: Engine) -> None:
    """A worker that is replaced in good order while it is at work."""
    worker = new_worker(engine)
    claimed = engine.store.subscribe(f"run:{MAIN_RUN}")
    await worker.start()
    await claimed.wait(0.2)
    await worker.stop()


async def keep_signalling(engine: Engine) -> None:
    """A client that is not sure its signals arrive: it sends the same two until their runs are over."""
    for number in (1, 2):
        while True:
            run = await engine.store.run(MAIN_RUN)
            newest = run if run.continued_to is None else await engine.store.run(run.continued_to)
            if newest.final or (number == 1 and newest.id != MAIN_RUN):
                break
            if number == 1 or newest.id != MAIN_RUN:
                try:
                    await engine.signal(MAIN_RUN, "go", f"yes-{number}", id=f"signal-{number}")
                except Conflict:
                    break
            await asyncio.sleep(0.01)


async def wait_for_all(engine: Engine) -> None:
    changed = engine.store.subscribe("events")
    while True:
        everything = await engine.store.runs(limit=1000)
        runs = [run for run in everything if run.kind != "schedule"]
        if (
            len(runs) < len(everything)
            and all(run.final for run in runs)
            and sum(run.agent == "reader" for run in runs) == 2
        ):
            return
        await changed.wait(0.2)


async def main() -> None:
    store = SqliteStore(FOLDER / "relit.db")
    await store.start()
    engine = Engine(store, Payloads(ObstoreBlobs(str(FOLDER / "blobs"))))
    ticker, scheduler = Ticker(store), Scheduler(engine)
    for service in (ticker, scheduler):
        await service.start()
    await scheduler.add("beat", tick, Spec(every="1s", missed="latest", overlap="skip"))
    if not acknowledged():  # what was acknowledged once must be there: it is not asked for again
        witness(f"acknowledged {await engine.start(main_work.target, [2], id=MAIN_RUN)}")
    await work_a_little(engine)
    worker = new_worker(engine)
    await worker.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(keep_signalling(engine))
        group.create_task(wait_for_all(engine))
    for service in (worker, scheduler, ticker):
        await service.stop()
    await store.stop()


def arm(spec: str) -> None:
    """Die at the Nth passing of a point."""
    name, _, number = spec.rpartition(":")
    left = int(number)

    def passing(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    crashpoints.install(passing)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        arm(sys.argv[2])
    asyncio.run(main())
