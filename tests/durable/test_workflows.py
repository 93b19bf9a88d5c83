"""Workflows end to end on a real store: waits, children, messages, gather, recorded values."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from durable_house import House
from workflow_parts import QUICK, Note, Point, adds, boom, plus_one

import relit
from relit.durable import faults
from relit.durable.retry import Retry
from relit.errors import (
    Conflict,
    RunFailed,
    StepFailed,
    WaitTimeout,
)


async def test_a_sleeping_run_is_a_row(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        await ctx.step(plus_one, 1)
        await ctx.sleep(1.2)
        return "slept"

    worker = await house.work(flow)
    run = await house.engine.start(flow)
    found = await house.until_state(run, "waiting")
    await house.until_idle(worker)
    assert found.wake_at is not None
    assert await house.engine.result(run, "20s") == "slept"
    assert [s.kind for s in await house.store.steps(run)] == ["step", "sleep"]


async def test_sleep_until_needs_a_zone(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        try:
            ctx.sleep_until(datetime(2030, 1, 1))
        except Conflict as error:
            return error.what
        return "?"

    await house.work(flow)
    assert "no time zone" in await house.run(flow)


async def test_signals_are_consumed_in_order_of_arrival(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> list[Any]:
        return [await ctx.signal("a"), await ctx.signal("b"), await ctx.signal("a")]

    await house.work(flow)
    run = await house.engine.start(flow)
    await house.until_state(run, "waiting")
    for name, payload in [("a", 1), ("a", 2), ("b", Point(3, 4))]:
        await house.engine.signal(run, name, payload)
    assert await house.engine.result(run, "20s") == [1, {"x": 3, "y": 4}, 2]


async def test_a_signal_sent_before_the_run_starts_is_not_lost(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> Any:
        return await ctx.signal("go")

    run = await house.engine.start(flow)
    assert await house.engine.signal(run, "go", "early", id="s1")
    assert not await house.engine.signal(run, "go", "again", id="s1")
    await house.work(flow)
    assert await house.engine.result(run, "20s") == "early"


async def test_a_signal_may_time_out(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> list[Any]:
        first = await ctx.signal("never", timeout="10ms", default="nothing")
        try:
            await ctx.signal("never", timeout="10ms")
        except WaitTimeout as error:
            return [first, error.what]
        return []

    await house.work(flow)
    assert await house.run(flow) == ["nothing", "the signal 'never' did not come in time"]


async def test_a_child_is_a_run_of_its_own(house: House) -> None:
    @relit.workflow
    async def parent(ctx: relit.Context) -> int:
        return await ctx.child(adds, await ctx.child(adds, 1))

    worker = await house.work(parent, adds)
    run = await house.engine.start(parent)
    assert await house.engine.result(run, "20s") == 7
    children = await house.store.runs(parent=run)
    assert {child.parent_pos for child in children} == {"1", "2"}
    await house.until_idle(worker)


async def test_a_childs_failure_is_raised_in_its_parent(house: House) -> None:
    @relit.workflow
    async def fails(ctx: relit.Context) -> None:
        await ctx.step(boom, retry=Retry(attempts=1))

    @relit.workflow
    async def parent(ctx: relit.Context) -> str:
        try:
            await ctx.child(fails)
        except RunFailed as error:
            return error.why
        return "?"

    await house.work(parent, fails)
    assert "it is broken" in await house.run(parent)


async def test_a_message_is_sent_once_and_handled(house: House) -> None:
    got: list[Any] = []

    @relit.agent
    async def clerk(ctx: relit.Context, message: Note) -> None:
        got.append(message)

    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        return await ctx.send(clerk, Note("hello", Point(1, 1)))

    await house.work(flow, clerk)
    sent = await house.run(flow)
    await house.until_state(sent, "completed")
    assert got == [Note("hello", Point(1, 1))]


async def test_a_message_that_keeps_failing_is_a_dead_letter(house: House) -> None:
    @relit.agent(retry=QUICK)
    async def clerk(ctx: relit.Context, message: str) -> None:
        await ctx.step(boom, retry=Retry(attempts=1))

    await house.work(clerk)
    sent = await house.engine.send(clerk, "x")
    found = await house.until_state(sent.id, "discarded")
    assert found.attempt == 3
    assert found.failed_pos == "1"
    assert found.error is not None
    assert "it is broken" in faults.load(found.error).why


async def test_a_retried_workflow_keeps_its_finished_steps(house: House) -> None:
    calls: list[str] = []

    async def first() -> None:
        calls.append("first")

    async def second() -> None:
        calls.append("second")
        if calls.count("second") < 3:
            raise OSError("no")

    @relit.workflow(retry=QUICK)
    async def flow(ctx: relit.Context) -> int:
        await ctx.step(first)
        await ctx.step(second, retry=Retry(attempts=1))
        return ctx.attempt

    await house.work(flow)
    assert await house.run(flow) == 3
    assert calls == ["first", "second", "second", "second"]


async def test_gather_keeps_order_and_raises_the_first_branchs_error(house: House) -> None:
    async def after(seconds: float, value: Any) -> Any:
        await asyncio.sleep(seconds)
        if isinstance(value, str):
            raise ValueError(value)
        return value

    once = Retry(attempts=1)

    @relit.workflow
    async def flow(ctx: relit.Context) -> list[Any]:
        fine = await ctx.gather(ctx.step(after, 0.02, 1), ctx.step(after, 0.0, 2))
        mixed = await ctx.gather(ctx.step(after, 0, 3), ctx.step(after, 0, "x", retry=once), return_exceptions=True)
        try:
            await ctx.gather(ctx.step(after, 0.02, "a", retry=once), ctx.step(after, 0.0, "b", retry=once))
        except StepFailed as error:
            return [fine, mixed[0], mixed[1].error_type, error.why]
        return []

    await house.work(flow)
    assert await house.run(flow) == [[1, 2], 3, "ValueError", "ValueError: a"]


async def test_branches_may_wait_and_the_run_is_still_a_row(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> list[Any]:
        async def branch(name: str) -> Any:
            await ctx.step(plus_one, 1)
            answer = await ctx.signal(name)
            return await ctx.step(plus_one, answer)

        return await ctx.gather(branch("a"), branch("b"), ctx.signal("c"))

    worker = await house.work(flow)
    run = await house.engine.start(flow)
    await house.until_state(run, "waiting")
    await house.until_idle(worker)
    assert sorted((w.pos, w.name) for w in await house.store.waits(run)) == [
        ("1", "c"), ("2/0.2", "a"), ("2/1.2", "b"),
    ]  # fmt: skip
    await house.engine.signal(run, "b", 20)
    await house.engine.signal(run, "c", 30)
    await house.engine.signal(run, "a", 10)
    assert await house.engine.result(run, "20s") == [11, 21, 30]


async def test_a_wait_beside_a_running_step_is_served_in_memory(house: House) -> None:
    let_go = asyncio.Event()

    async def long() -> str:
        await let_go.wait()
        return "step"

    async def mark(what: Any) -> Any:
        let_go.set()
        return what

    @relit.workflow
    async def flow(ctx: relit.Context) -> list[Any]:
        async def waits() -> Any:
            return await ctx.step(mark, await ctx.signal("go"))

        return await ctx.gather(ctx.step(long), waits(), ctx.child(adds, 1))

    await house.work(flow, adds)
    run = await house.engine.start(flow)
    await house.until_state(run, "running")
    await house.engine.signal(run, "go", "signal")
    assert await house.engine.result(run, "20s") == ["step", "signal", 4]


async def test_tasks_of_other_makers_work_in_memory(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> list[Any]:
        async def branch(name: str) -> Any:
            answer = await ctx.signal(name)
            return await ctx.step(plus_one, answer)

        return list(await asyncio.gather(branch("a"), branch("b")))

    await house.work(flow)
    run = await house.engine.start(flow)
    await house.engine.signal(run, "b", 20)
    await house.engine.signal(run, "a", 10)
    assert await house.engine.result(run, "20s") == [11, 21]
    assert {s.pos for s in await house.store.steps(run)} == {"t1.1", "t1.2", "t2.1", "t2.2"}


async def test_recorded_values_stay_the_same(house: House) -> None:
    seen: list[Any] = []

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        seen.append((ctx.now(), ctx.random(), ctx.uuid()))
        await ctx.signal("go")

    await house.work(flow)
    run = await house.engine.start(flow)
    await house.until_state(run, "waiting")
    await house.engine.signal(run, "go")
    await house.engine.result(run, "20s")
    assert len(seen) == 2
    assert seen[0] == seen[1]


async def test_emitted_items_are_written_once_across_replays(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        def speaks() -> None:
            ctx.emit("in step")

        ctx.emit("one")
        await ctx.sleep(0.001)
        await ctx.step(speaks)
        ctx.emit("two")
        await ctx.signal("go")
        ctx.emit("three")

    await house.work(flow)
    run = await house.engine.start(flow)
    await house.until_state(run, "waiting")
    await house.engine.signal(run, "go")
    await house.engine.result(run, "20s")
    items = await house.store.stream(run)
    assert [(i.idx, i.pos, house.engine.payloads.unpack(i.data)) for i in items] == [
        (0, "", "one"), (1, "2", "in step"), (2, "", "two"), (3, "", "three"),
    ]  # fmt: skip


async def test_a_step_that_is_tried_again_can_go_on_with_what_it_has_emitted(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> list[str]:
        async def counts() -> list[str]:
            had = [each async for each in ctx.emitted()]
            ctx.emit(f"item {len(had)}", goes_on=True)
            if len(had) < 2:
                raise ConnectionError("once more")
            return had

        ctx.emit("first")
        return await ctx.step(counts, retry=relit.Retry(first="1ms"))

    await house.work(flow)
    run = await house.engine.start(flow)
    assert await house.engine.result(run, "20s") == ["first", "item 1"]
    assert [(i.pos, i.attempt) for i in await house.store.stream(run)] == [("", 1), ("1", 1), ("1", 1)]


async def test_continue_as_new_keeps_followers_and_signals(house: House) -> None:
    @relit.workflow
    async def counts(ctx: relit.Context, n: int) -> int:
        if n < 3:
            await ctx.step(plus_one, n)
            ctx.continue_as_new(n + 1)
        return n + await ctx.signal("last")

    @relit.workflow
    async def parent(ctx: relit.Context) -> int:
        return await ctx.child(counts, 0)

    await house.work(counts, parent)
    run = await house.engine.start(counts, [0])
    await house.engine.signal(run, "last", 100)
    assert await house.engine.result(run, "20s") == 103
    outer = await house.engine.start(parent)
    await house.until(outer, lambda found: found.state == "waiting")
    child = (await house.store.runs(parent=outer))[-1]
    await house.engine.signal(child.id, "last", 200)
    assert await house.engine.result(outer, "20s") == 203
