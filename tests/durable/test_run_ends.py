"""How runs end, and begin again: cancel, pause, time limits, fork, changed code, large results."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from durable_house import House
from workflow_parts import QUICK, plus_one

import relit
from relit.durable import faults
from relit.durable.retry import Retry
from relit.errors import (
    JournalMismatch,
    NotFound,
    RunCancelled,
    RunFailed,
    RunTimeout,
    WaitTimeout,
)


async def test_cancel_stops_a_running_step_and_children(house: House) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    @relit.workflow
    async def child(ctx: relit.Context) -> None:
        await ctx.step(endless)

    @relit.workflow
    async def parent(ctx: relit.Context) -> None:
        await ctx.child(child)

    await house.work(parent, child)
    run = await house.engine.start(parent)
    await started.wait()
    await house.until_state(run, "waiting")
    await house.store.cancel(run, "enough")
    await stopped.wait()
    with pytest.raises(RunCancelled, match="enough"):
        await house.engine.result(run, "20s")
    inner = (await house.store.runs(parent=run))[0]
    await house.until_state(inner.id, "cancelled")


async def test_a_running_run_is_cancelled_by_its_worker(house: House) -> None:
    started = asyncio.Event()

    async def endless() -> None:
        started.set()
        await asyncio.sleep(60)

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(endless)

    worker = await house.work(flow)
    run = await house.engine.start(flow)
    await started.wait()
    await house.store.cancel(run, "enough")
    assert (await house.until_state(run, "cancelled")).reason == "enough"
    await house.until_idle(worker)


async def test_a_paused_run_parks_at_the_next_boundary_and_goes_on(house: House) -> None:
    started, go = asyncio.Event(), asyncio.Event()
    calls: list[int] = []

    async def held() -> None:
        calls.append(1)
        started.set()
        await go.wait()

    @relit.workflow
    async def flow(ctx: relit.Context) -> int:
        await ctx.step(held)
        return await ctx.step(plus_one, 1)

    worker = await house.work(flow)
    run = await house.engine.start(flow)
    await started.wait()
    await house.store.pause(run)
    async with asyncio.timeout(20):
        while not any(execution.pausing for execution in worker.executions):
            await asyncio.sleep(0)
    go.set()
    assert (await house.until_state(run, "parked")).reason == "paused"
    assert len(await house.store.steps(run)) == 1
    await house.store.resume(run)
    assert await house.engine.result(run, "20s") == 2
    assert len(calls) == 1


async def test_a_run_over_its_time_limit_fails(house: House) -> None:
    async def endless() -> None:
        await asyncio.sleep(60)

    @relit.workflow(timeout="50ms", retry=QUICK)
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(endless)

    await house.work(flow)
    with pytest.raises(RunTimeout):
        await house.run(flow)


async def test_a_step_cannot_contain_steps(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        async def nested() -> None:
            await ctx.step(plus_one, 1)

        await ctx.step(nested, retry=Retry(attempts=1))

    await house.work(flow)
    with pytest.raises(RunFailed, match="used the workflow's context"):
        await house.run(flow)


async def test_results_of_unknown_runs_are_not_found(house: House) -> None:
    with pytest.raises(NotFound):
        await house.engine.result("0" * 26)


async def test_waiting_for_a_result_may_time_out(house: House) -> None:
    run = await house.engine.start("nobody/flow")
    with pytest.raises(WaitTimeout, match="available"):
        await house.engine.result(run, timeout="10ms")


async def test_fork_starts_from_a_step(house: House) -> None:
    calls: list[int] = []

    async def count(n: int) -> int:
        calls.append(n)
        return n

    @relit.workflow
    async def flow(ctx: relit.Context) -> int:
        return sum([await ctx.step(count, n) for n in (1, 2, 3)])

    await house.work(flow)
    run = await house.engine.start(flow)
    await house.engine.result(run, "20s")
    forked = await house.engine.fork(run, 2)
    assert await house.engine.result(forked, "20s") == 6
    assert calls == [1, 2, 3, 3]
    assert (await house.store.run(forked)).forked_from == run


def renamed(house: House, body: Any) -> Any:
    """The same workflow after an edit."""
    return relit.workflow(name="edited", agent="test")(body)


async def test_changed_code_parks_the_run_and_shows_both_sides(house: House) -> None:
    async def old(ctx: relit.Context) -> int:
        await ctx.step(plus_one, 1)
        return await ctx.signal("go")

    async def new(ctx: relit.Context) -> int:
        try:
            await ctx.step(plus_one, 2)
        except JournalMismatch:
            await ctx.step(plus_one, 3)  # swallowing the error does not help
        return 0

    before = await house.work(renamed(house, old))
    run = await house.engine.start("test/edited")
    await house.until_state(run, "waiting")
    await before.stop()
    await house.work(renamed(house, new))
    await house.engine.signal(run, "go", 5)
    found = await house.until_state(run, "parked")
    assert found.reason == "journal-mismatch"
    fault = faults.load(found.error or b"")
    assert "at position 1" in fault.what
    assert "plus_one" in fault.why
    assert "relit fork" in fault.fix


async def test_history_that_the_code_no_longer_asks_for_is_a_mismatch(house: House) -> None:
    async def old(ctx: relit.Context) -> int:
        await ctx.step(plus_one, 1)
        await ctx.step(plus_one, 2)
        return await ctx.signal("go")

    async def new(ctx: relit.Context) -> int:
        return await ctx.step(plus_one, 1)

    before = await house.work(renamed(house, old))
    run = await house.engine.start("test/edited")
    await house.until_state(run, "waiting")
    await before.stop()
    await house.work(renamed(house, new))
    await house.engine.signal(run, "go", 5)
    found = await house.until_state(run, "parked")
    assert "at 2" in faults.load(found.error or b"").why


async def test_patched_guards_a_change(house: House) -> None:
    async def old(ctx: relit.Context) -> Any:
        await ctx.step(plus_one, 1)
        return await ctx.signal("go")

    async def new(ctx: relit.Context) -> Any:
        if ctx.patched("greet"):
            await ctx.step(plus_one, 99)
        await ctx.step(plus_one, 1)
        answer = await ctx.signal("go")
        late = ctx.patched("late")
        return [answer, late]

    before = await house.work(renamed(house, old))
    run = await house.engine.start("test/edited")
    await house.until_state(run, "waiting")
    await before.stop()
    await house.work(renamed(house, new))
    await house.engine.signal(run, "go", 5)
    assert await house.engine.result(run, "20s") == [5, True]
    fresh = await house.engine.start("test/edited")
    await house.until_state(fresh, "waiting")
    await house.engine.signal(fresh, "go", 6)
    assert await house.engine.result(fresh, "20s") == [6, True]
    assert [s.pos for s in await house.store.steps(fresh)] == ["patch:greet", "1", "2", "3", "patch:late"]


async def test_retrying_a_parent_looks_at_its_child_again(house: House) -> None:
    working = asyncio.Event()

    async def sometimes() -> str:
        if not working.is_set():
            raise OSError("down")
        return "up"

    @relit.workflow
    async def child(ctx: relit.Context) -> str:
        return await ctx.step(sometimes, retry=Retry(attempts=1))

    @relit.workflow
    async def parent(ctx: relit.Context) -> str:
        return await ctx.child(child)

    await house.work(parent, child)
    run = await house.engine.start(parent)
    with pytest.raises(RunFailed):
        await house.engine.result(run, "20s")
    inner = (await house.store.runs(parent=run))[0]
    working.set()
    await house.store.retry(inner.id)
    assert await house.engine.result(inner.id, "20s") == "up"
    await house.store.retry(run)
    assert await house.engine.result(run, "20s") == "up"


async def test_large_results_and_messages_go_to_the_blob_store(house: House) -> None:
    async def big() -> str:
        return "x" * 200_000

    @relit.workflow
    async def flow(ctx: relit.Context, text: str) -> int:
        found = await ctx.step(big)
        answer = await ctx.signal("go")
        return len(found) + len(text) + len(answer)

    await house.work(flow)
    run = await house.engine.start(flow, ["y" * 100_000])
    await house.until_state(run, "waiting")
    await house.engine.signal(run, "go", "z" * 70_000)
    assert await house.engine.result(run, "20s") == 370_000
    assert all(len(step.result or b"") < 500 for step in await house.store.steps(run))


async def test_a_run_started_by_name_is_retried_as_its_definition_says(house: House) -> None:
    tries: list[int] = []

    async def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("no")
        return len(tries)

    @relit.workflow(agent="test", name="by_name", retry=QUICK)
    async def flow(ctx: relit.Context) -> int:
        return await ctx.step(flaky, retry=Retry(attempts=1))

    await house.work(flow)
    assert await house.run("test/by_name") == 3
    tries.clear()
    with pytest.raises(RunFailed):
        await house.run("test/by_name", attempts=1)


async def test_branches_of_a_run_that_is_let_go_of_are_never_started(house: House) -> None:
    started: list[int] = []

    @relit.workflow
    async def flow(ctx: relit.Context, n: int) -> int:
        async def branch(number: int) -> int:
            started.append(number)
            return number

        if n == 0:
            try:
                ctx.continue_as_new(1)
            finally:
                await ctx.gather(branch(0), branch(1))
        return n

    await house.work(flow)
    assert await house.run(flow, 0) == 1
    gc.collect()
    assert started == []


async def test_an_interrupted_run_emits_nothing_twice(house: House) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def held(ctx: relit.Context) -> None:
        ctx.emit("step")
        entered.set()
        await go.wait()

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        async def branch(name: str) -> None:
            ctx.emit(f"{name}1")
            await ctx.step(plus_one, 1)
            ctx.emit(f"{name}2")

        await ctx.gather(branch("a"), branch("b"))
        ctx.emit("main")

        async def step() -> None:
            await held(ctx)

        await ctx.step(step)
        ctx.emit("end")

    first = await house.work(flow)
    run = await house.engine.start(flow)
    await entered.wait()
    async with asyncio.timeout(20):
        while len(await house.store.stream(run)) < 6:
            await asyncio.sleep(0.01)
    await first.stop()
    go.set()
    await house.work(flow)
    await house.engine.result(run, "20s")
    items = await house.store.stream(run)
    assert [item.idx for item in items] == list(range(8))
    said = [(item.pos, house.engine.payloads.unpack(item.data)) for item in items]
    assert said[4:] == [("", "main"), ("2", "step"), ("2", "step"), ("", "end")]
    assert sorted(said[:4]) == [("1/0", "a1"), ("1/0", "a2"), ("1/1", "b1"), ("1/1", "b2")]


async def test_a_run_started_by_name_has_the_time_limit_of_its_definition(house: House) -> None:
    @relit.workflow(agent="test", name="patient", timeout="200ms")
    async def patient(ctx: relit.Context) -> None:
        await ctx.signal("never")

    await house.work(patient)
    run = await house.engine.start("test/patient")
    ended = await house.until_state(run, "failed")
    assert ended.reason == "timeout"
    assert ended.deadline_at == ended.created_at + 200


async def test_a_message_is_told_of_earlier_ones_that_wait_for_a_person(house: House) -> None:
    async def doubtful() -> None:
        raise ConnectionError("nobody knows")

    @relit.agent(name="clerk")
    async def clerk(ctx: relit.Context, message: str) -> list[str]:
        if message == "first":
            await ctx.effect(doubtful, doubt="ask")
        return await ctx.parked()

    await house.work(clerk)
    first = (await house.engine.send(clerk, "first")).id
    await house.until_state(first, "parked")
    second = (await house.engine.send(clerk, "second")).id
    assert await house.engine.result(second, "20s") == [first]


async def test_a_further_attempt_of_a_run_tries_its_failed_child_again(house: House) -> None:
    tries: list[int] = []

    async def sometimes() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")
        return "at last"

    @relit.workflow(agent="test")
    async def inner(ctx: relit.Context) -> str:
        return await ctx.step(sometimes, retry=Retry(attempts=1))

    @relit.workflow(agent="test", retry=QUICK)
    async def outer(ctx: relit.Context) -> str:
        return await ctx.child(inner)

    await house.work(inner, outer)
    assert await house.run(outer) == "at last"
    assert len(tries) == 2
