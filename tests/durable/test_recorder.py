"""Writes while the store is away, and when the claim is gone."""

from __future__ import annotations

from typing import Any

import pytest
from durable_house import House

import relit
from relit.durable.engine import Engine
from relit.durable.lease import Lease
from relit.durable.recorder import Dropped, Recorder
from relit.durable.worker import Worker
from relit.errors import StoreFull, StoreUnavailable
from relit.lib import proc
from relit.lib.clock import SYSTEM_CLOCK
from relit.store.base import Store
from relit.store.values import Fence, Finish, WorkerInfo


class Faulty:
    """The real store behind a bad line: the first calls of each named method fail, before or after they arrive."""

    def __init__(self, store: Store, failures: dict[str, list[Exception]]) -> None:
        self._store = store
        self.failures = failures

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if not self.failures.get(name):
            return real

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.failures[name]:
                raise self.failures[name].pop(0)
            return await real(*args, **kwargs)

        return call


def away(times: int) -> list[Exception]:
    return [StoreUnavailable("away") if i % 2 else StoreFull("full") for i in range(times)]


async def plus_one(x: int) -> int:
    return x + 1


async def pay(*, idempotency_key: str) -> str:
    return idempotency_key


@relit.workflow(agent="test")
async def everything(ctx: relit.Context) -> int:
    ctx.emit("hello")
    n = await ctx.step(plus_one, 1)
    await ctx.effect(pay, doubt="key")
    return n + await ctx.signal("go")


async def test_a_store_that_comes_and_goes_loses_nothing(house: House) -> None:
    names = ["append", "intend", "emit", "suspend", "finish", "journal", "arrivals", "claim", "run", "beat"]
    faulty: Any = Faulty(house.store, {name: away(2) for name in names})
    worker = Worker(Engine(faulty, house.engine.payloads), [everything])
    await worker.start()
    run = await house.engine.start(everything)
    await house.engine.signal(run, "go", 40)
    assert await house.engine.result(run, "20s") == 42
    await worker.stop()
    assert [s.kind for s in await house.store.steps(run)] == ["step", "effect", "signal"]
    assert [house.engine.payloads.unpack(i.data) for i in await house.store.stream(run)] == ["hello"]
    assert faulty.failures["append"] == []


async def recorder_for(house: House, store: Any, lease_ms: int) -> tuple[Recorder, list[str]]:
    me, lost = proc.myself(), list[str]()
    info = WorkerInfo(
        id="w", host="h", pid=me.pid, start=me.start, boot=me.boot, namespace=me.namespace, targets=["a/b"]
    )
    await house.store.join(info, 60_000)
    run = await house.engine.start("a/b")
    await house.store.claim("w", ["a/b"], 1)
    lease = Lease(store, "w", lease_ms, SYSTEM_CLOCK)
    lease.granted(SYSTEM_CLOCK.boot_ms())
    return Recorder(store, Fence(run, 1), lease, SYSTEM_CLOCK, lambda: lost.append("lost")), lost


async def test_a_store_that_stays_away_ends_with_the_lease(house: House) -> None:
    faulty = Faulty(house.store, {"append": away(1000)})
    recorder, lost = await recorder_for(house, faulty, 120)
    with pytest.raises(Dropped):
        await recorder.append("1", "step", "f", b"", result=b"\x01\xc0")
    assert lost == ["lost"]


async def test_a_newer_claim_ends_the_recorder(house: House) -> None:
    recorder, lost = await recorder_for(house, house.store, 60_000)
    await house.store.release([recorder.fence])
    with pytest.raises(Dropped):
        await recorder.append("1", "step", "f", b"", result=b"\x01\xc0")
    with pytest.raises(Dropped):
        await recorder.finish(Finish(state="completed"))
    assert lost == ["lost", "lost"]
    assert await house.store.steps(recorder.fence.run) == []


async def test_notes_go_ahead_of_the_next_write(house: House) -> None:
    recorder, _ = await recorder_for(house, house.store, 60_000)
    recorder.note("1", "value", "now", b"\x01\x01")
    recorder.note("2", "value", "random", b"\x01\x02")
    await recorder.append("3", "step", "f", b"", result=b"\x01\xc0")
    recorder.note("4", "value", "now", b"\x01\x03")
    await recorder.settle()
    assert [(s.seq, s.pos) for s in await house.store.steps(recorder.fence.run)] == [
        (1, "1"), (2, "2"), (3, "3"), (4, "4"),
    ]  # fmt: skip


async def test_margin_renews_a_lease_that_runs_short(house: House) -> None:
    recorder, _ = await recorder_for(house, house.store, 60_000)
    short = Lease(house.store, "w", 60_000, SYSTEM_CLOCK)
    assert short.left_ms() == 0
    assert await short.margin(30_000)
    assert short.left_ms() > 30_000
    await house.store.leave("w")
    gone = Lease(house.store, "w", 60_000, SYSTEM_CLOCK)
    assert not await gone.margin(1)
    assert gone.lost
    assert recorder.lease.left_ms() > 0
