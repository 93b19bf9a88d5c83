"""Moments between two commits, made to happen."""

from __future__ import annotations

import asyncio
from typing import Any

from durable_house import House
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import relit
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.retry import Retry
from relit.durable.worker import Worker
from relit.lib import crashpoints, proc
from relit.lib.ids import new_id
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Fence, Finish, Mailbox, NewRun, Wait, WorkerInfo


async def plus_one(x: int) -> int:
    return x + 1


async def join(house: House, name: str, *targets: str) -> None:
    me = proc.myself()
    info = WorkerInfo(
        id=name, host="h", pid=me.pid, start=me.start, boot=me.boot, namespace=me.namespace, targets=list(targets)
    )
    await house.store.join(info, 60_000)


async def test_a_child_that_continues_before_its_parent_waits_does_not_strand_it(house: House) -> None:
    await join(house, "w", "a/p", "a/c")
    parent = NewRun(id=new_id(), agent="a", workflow="p", input=b"\x01\xc0")
    child = NewRun(id=new_id(), agent="a", workflow="c", input=b"\x01\xc0", parent=parent.id, parent_pos="1")
    following = NewRun(id=new_id(), agent="a", workflow="c", input=b"\x01\xc0", parent=parent.id, parent_pos="1")
    await house.store.enqueue([parent])
    await house.store.claim("w", ["a/p"], 1)
    await house.store.enqueue([child])
    await house.store.claim("w", ["a/c"], 1)
    await house.store.finish(Fence(child.id, 1), Finish(state="completed", next_run=following))
    wait = Wait(pos="1", kind="child", name=child.id)
    assert not await house.store.suspend(Fence(parent.id, 1), [wait], "child")
    again = Wait(pos="1", kind="child", name=following.id)
    assert await house.store.suspend(Fence(parent.id, 1), [again], "child")


async def test_a_signal_that_comes_while_the_run_is_let_go_of_is_taken(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> Any:
        return [await ctx.signal("a"), await ctx.signal("b")]

    run = ""

    async def signal_now() -> None:
        await house.engine.signal(run, "a", 1)
        await house.engine.signal(run, "b", 2)

    signals: list[asyncio.Task[None]] = []

    def at(point: str) -> None:
        if point == "suspend.before" and not signals:
            signals.append(asyncio.get_running_loop().create_task(signal_now()))

    crashpoints.install(at)
    try:
        await house.work(flow)
        run = await house.engine.start(flow)
        assert await house.engine.result(run, "20s") == [1, 2]
    finally:
        crashpoints.install(None)


async def test_a_full_mailbox_makes_the_sender_wait(house: House) -> None:
    go = asyncio.Event()

    @relit.agent(mailbox=Mailbox(name="slow", depth=1), name="slow")
    async def slow(ctx: relit.Context, n: int) -> int:
        async def held() -> int:
            await go.wait()
            return n

        return await ctx.step(held)

    @relit.workflow
    async def flow(ctx: relit.Context) -> list[str]:
        return [await ctx.send(slow, n) for n in range(3)]

    await house.work(slow, flow)
    run = await house.engine.start(flow)
    await house.until(run, lambda found: found.state == "running")
    go.set()
    sent = await house.engine.result(run, "20s")
    for message in sent:
        await house.until_state(message, "completed")
    assert len(set(sent)) == 3


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delays=st.lists(st.sampled_from([0, 1, 2, 3, 5]), min_size=9, max_size=9), breaks=st.integers(0, 8))
def test_parallel_branches_replay_whatever_their_timing(tmp_path_factory: Any, delays: list[int], breaks: int) -> None:
    asyncio.run(_parallel(tmp_path_factory.mktemp("race"), delays, breaks))


async def _parallel(folder: Any, delays: list[int], breaks: int) -> None:
    """Three branches of three steps with delays of any order; the worker goes away after ``breaks`` steps."""
    calls: list[tuple[int, int]] = []
    broken = asyncio.Event()

    async def act(branch: int, n: int) -> int:
        calls.append((branch, n))
        for _ in range(delays[branch * 3 + n]):
            await asyncio.sleep(0)
        if len(calls) > breaks:
            broken.set()
        return branch * 10 + n

    @relit.workflow(agent="race", name="flow")
    async def flow(ctx: relit.Context) -> list[Any]:
        async def branch(number: int) -> list[Any]:
            found: list[Any] = [await ctx.step(act, number, n) for n in range(3)]
            return [*found, ctx.random()]

        found = await ctx.gather(*(branch(number) for number in range(3)))
        return [*found, await ctx.gather(ctx.step(plus_one, 1), ctx.step(plus_one, 2))]

    store = SqliteStore(folder / "relit.db")
    await store.start()
    engine = Engine(store, Payloads())
    first, second = Worker(engine, [flow]), Worker(engine, [flow])
    await first.start()
    run = await engine.start(flow)
    await broken.wait()
    await first.stop()
    await second.start()
    result = await engine.result(run, "20s")
    assert [row[:3] for row in result[:3]] == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    assert result[3] == [2, 3]
    steps = await store.steps(run)
    assert len({step.pos for step in steps}) == len(steps) == 14
    assert [step.seq for step in steps] == list(range(1, 15))
    assert len(calls) <= 9 + 3, "only what was in flight ran twice"
    await second.stop()
    await store.stop()


async def test_a_thousand_waiting_runs_cost_no_memory_in_the_worker(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context, n: int) -> int:
        return n + await ctx.signal("go")

    worker = await house.work(flow)
    runs = [await house.engine.make(flow, [n]) for n in range(1000)]
    await house.engine.enqueue(runs)
    async with asyncio.timeout(30):
        while (await house.store.counts()).get((flow.target, "waiting"), 0) < 1000:
            await asyncio.sleep(0.01)
    await house.until_idle(worker)
    await house.engine.signal(runs[7].id, "go", 1)
    assert await house.engine.result(runs[7].id, "20s") == 8


async def test_a_long_retry_waits_as_a_row(house: House) -> None:
    tries: list[int] = []

    async def flaky() -> int:
        tries.append(1)
        if len(tries) < 2:
            raise OSError("not yet")
        return len(tries)

    @relit.workflow
    async def flow(ctx: relit.Context) -> int:
        return await ctx.step(flaky, retry=Retry(first=5.1, jitter=0))

    worker = await house.work(flow)
    run = await house.engine.start(flow)
    found = await house.until_state(run, "waiting")
    await house.until_idle(worker)
    waits = await house.store.waits(run)
    assert [(w.pos, w.kind) for w in waits] == [("1", "retry")]
    assert found.reason == "retry of flaky"
    assert await house.engine.result(run, "20s") == 2
    assert [s.attempts for s in await house.store.steps(run)] == [2]
    assert await house.store.waits(run) == []
