"""Runs end to end: what may be done twice, forgotten or shown by mistake."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from durable_house import House

import relit
from relit.durable import faults
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.retry import Retry
from relit.durable.worker import Worker
from relit.errors import RunFailed
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Effect, Fence

ONCE = Retry(attempts=1)
SOON = Retry(attempts=3, first=0.001, jitter=0)


class Reverse:
    """A codec for tests."""

    name = "reverse"

    def seal(self, data: bytes) -> bytes:
        return data[::-1]

    def open(self, data: bytes) -> bytes:
        return data[::-1]


@pytest.mark.parametrize("doubt", ["ask", "lookup"])
async def test_an_effect_whose_answer_cannot_be_stored_is_not_done_again(house: House, doubt: Any) -> None:
    calls: list[str] = []

    async def pay() -> object:
        calls.append("paid")
        return object()

    async def lookup(key: str) -> None:
        return None

    @relit.agent(name="payer", retry=SOON)
    async def payer(ctx: relit.Context, message: str) -> None:
        await ctx.effect(pay, doubt=doubt, lookup=lookup, timeout="100ms", retry=SOON)

    await house.work(payer)
    run = (await house.engine.send("payer", "rent")).id
    parked = await house.until_state(run, "parked", "discarded")
    assert (parked.state, parked.reason, calls) == ("parked", "effect-in-doubt", ["paid"])
    assert "cannot store" in faults.load(parked.error or b"").why


async def test_branches_that_failed_together_are_tried_again_together(house: House) -> None:
    down = True

    async def call(n: int) -> int:
        if down:
            raise OSError("down")
        return n

    @relit.workflow
    async def flow(ctx: relit.Context) -> list[int]:
        return await ctx.gather(*(ctx.step(call, n, retry=ONCE) for n in range(4)))

    await house.work(flow)
    run = await house.engine.start(flow)
    with pytest.raises(RunFailed):
        await house.engine.result(run, "20s")
    down = False
    await house.store.retry(run)
    assert await house.engine.result(run, "20s") == [0, 1, 2, 3]


async def test_an_attempt_of_the_run_tries_all_failed_branches(house: House) -> None:
    calls: list[int] = []

    async def call(n: int) -> int:
        calls.append(n)
        if len(calls) <= 4:
            raise OSError("down")
        return n

    @relit.workflow(retry=Retry(attempts=2, first=0.001))
    async def flow(ctx: relit.Context) -> list[int]:
        return await ctx.gather(*(ctx.step(call, n, retry=ONCE) for n in range(4)))

    await house.work(flow)
    assert await house.run(flow) == [0, 1, 2, 3]


async def test_a_step_done_again_has_a_number_of_its_own(house: House) -> None:
    calls: list[int] = []

    async def call() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("down")
        return 7

    @relit.workflow(retry=Retry(attempts=2, first=0.001))
    async def flow(ctx: relit.Context) -> int:
        return await ctx.step(call, retry=ONCE)

    await house.work(flow)
    run = await house.engine.start(flow)
    assert await house.engine.result(run, "20s") == 7
    journal = [(step.seq, step.kind, step.pos) for step in await house.store.steps(run)]
    assert journal == [(1, "forgotten", "~1"), (2, "step", "1")], "a follower that has seen 1 asks for what comes after"


async def test_the_same_signal_id_for_two_runs_is_two_signals(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        return str(await ctx.signal("go"))

    await house.work(flow)
    first, second = [await house.engine.start(flow) for _ in range(2)]
    assert await house.engine.signal(first, "go", "one", id="approved")
    assert await house.engine.signal(second, "go", "two", id="approved")
    assert [await house.engine.result(run, "20s") for run in (first, second)] == ["one", "two"]


async def test_a_huge_error_is_cut(house: House) -> None:
    async def fail() -> None:
        raise ValueError("x" * 1_000_000)

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(fail, retry=ONCE)

    await house.work(flow)
    run = await house.engine.start(flow)
    with pytest.raises(RunFailed):
        await house.engine.result(run, "20s")
    found = await house.store.run(run)
    (step,) = await house.store.steps(run)
    assert max(len(found.error or b""), len(step.error or b"")) < 64 * 1024
    assert len(found.reason or "") < 2000


async def test_a_heartbeat_is_sealed_like_every_payload(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "relit.db")
    await store.start()
    engine = Engine(store, Payloads(codec=Reverse()))
    end = asyncio.Event()

    async def work() -> None:
        relit.heartbeat("secret progress")
        await end.wait()

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(work, heartbeat="30s")

    worker = Worker(engine, [flow])
    await worker.start()
    run = await engine.start(flow)
    seen = store.subscribe(f"steps:{run}")
    while (beat := (await store.run(run)).beat) is None:
        await seen.wait(5)
    seen.close()
    assert b"secret" not in beat
    assert await engine.payloads.decode(beat) == "secret progress"
    end.set()
    await engine.result(run, "20s")
    await worker.stop()
    await store.stop()


class SlowIntents:
    """A store of whose answers to ``intend`` the worker hears late: it was stopped in that moment."""

    def __init__(self, house: House, worker: Worker, *, late_s: float = 0.0) -> None:
        self._intend = house.store.intend
        self._worker = worker
        self._late_s = late_s
        self.intents: list[Effect] = []

    async def intend(self, fence: Fence, effect: Effect, *, adopts: str | None = None) -> None:
        await self._intend(fence, effect, adopts=adopts)
        self.intents.append(effect)
        if self._late_s:
            await asyncio.sleep(self._late_s)
        else:
            self._worker._lease.lost = True


async def test_an_effect_is_not_sent_when_the_lease_went_while_its_intent_was_written(house: House) -> None:
    calls: list[str] = []

    async def pay(*, idempotency_key: str) -> None:
        calls.append(idempotency_key)

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.effect(pay, doubt="key")

    worker = await house.work(flow)
    slow = SlowIntents(house, worker)
    vars(house.store)["intend"] = slow.intend
    run = await house.engine.start(flow)
    async with asyncio.timeout(20):
        while not slow.intents or worker.running:
            await asyncio.sleep(0)
    assert calls == []
    assert (await house.store.run(run)).state == "running", "its lease will run out"


async def test_an_effect_is_not_sent_after_the_deadline_that_its_intent_names(house: House) -> None:
    calls: list[str] = []

    async def pay() -> None:
        calls.append("paid")

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.effect(pay, doubt="ask", timeout="20ms", retry=ONCE)

    worker = await house.work(flow)
    slow = SlowIntents(house, worker, late_s=0.05)
    vars(house.store)["intend"] = slow.intend
    run = await house.engine.start(flow)
    with pytest.raises(RunFailed, match="was not sent"):
        await house.engine.result(run, "20s")
    assert calls == []
