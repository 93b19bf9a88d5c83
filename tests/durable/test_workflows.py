"""Workflows end to end on a real store: steps, waits, children, messages, gather, and how runs end."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
from datetime import datetime
from typing import Any

import msgspec
import pydantic
import pytest
from durable_house import House

import relit
from relit.durable import faults
from relit.durable.retry import Retry
from relit.errors import (
    Conflict,
    JournalMismatch,
    NotFound,
    RunCancelled,
    RunFailed,
    RunTimeout,
    StepFailed,
    Unserialisable,
    WaitTimeout,
)

QUICK = Retry(attempts=3, first=0.001, jitter=0)


class Point(msgspec.Struct):
    x: int
    y: int


@dataclasses.dataclass
class Note:
    text: str
    at: Point


class Verdict(pydantic.BaseModel):
    name: str
    fine: bool = True


async def plus_one(x: int) -> int:
    return x + 1


def where_am_i() -> str:
    return threading.current_thread().name


async def boom() -> None:
    raise ValueError("it is broken")


@relit.workflow
async def adds(ctx: relit.Context, n: int) -> int:
    for _ in range(3):
        n = await ctx.step(plus_one, n)
    return n


async def test_steps_are_recorded_in_order(house: House) -> None:
    await house.work(adds)
    run = await house.engine.start(adds, [1])
    assert await house.engine.result(run, "20s") == 4
    steps = await house.store.steps(run)
    assert [(s.seq, s.pos, s.name) for s in steps] == [(1, "1", "plus_one"), (2, "2", "plus_one"), (3, "3", "plus_one")]
    assert (await house.store.run(run)).state == "completed"


async def test_an_ordinary_function_runs_in_a_thread(house: House) -> None:
    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        return await ctx.step(where_am_i)

    await house.work(flow)
    assert (await house.run(flow)).startswith("relit-step")


async def test_inputs_and_results_keep_their_types(house: House) -> None:
    seen: list[Any] = []

    async def move(note: Note, by: Point) -> Note:
        return Note(note.text, Point(note.at.x + by.x, note.at.y + by.y))

    async def judge(name: str) -> Verdict:
        return Verdict(name=name)

    @relit.workflow
    async def flow(ctx: relit.Context, note: Note, verdict: Verdict, *, by: Point) -> Note:
        seen.extend([note, verdict])
        moved = await ctx.step(move, note, by)
        seen.append(await ctx.step(judge, "a"))
        return moved

    await house.work(flow)
    run = await house.engine.start(flow, [Note("n", Point(1, 2)), Verdict(name="v")], {"by": Point(10, 20)})
    assert await house.engine.result(run, "20s", type=Note) == Note("n", Point(11, 22))
    assert seen == [Note("n", Point(1, 2)), Verdict(name="v"), Verdict(name="a")]


async def test_a_live_result_is_what_a_replay_would_return(house: House) -> None:
    async def pair() -> Any:
        return (1, {2})

    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        return repr(await ctx.step(pair))

    await house.work(flow)
    assert await house.run(flow) == "[1, [2]]"


async def test_a_failing_step_is_tried_again(house: House) -> None:
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        return "done"

    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        return await ctx.step(flaky, retry=QUICK)

    await house.work(flow)
    run = await house.engine.start(flow)
    assert await house.engine.result(run, "20s") == "done"
    assert [s.attempts for s in await house.store.steps(run)] == [3]


async def test_a_step_that_failed_for_good_is_recorded_and_raised(house: House) -> None:
    caught: list[StepFailed] = []

    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        try:
            await ctx.step(boom, retry=QUICK)
        except StepFailed as error:
            caught.append(error)
        await ctx.signal("go")
        return "went on"

    await house.work(flow)
    run = await house.engine.start(flow)
    await house.until_state(run, "waiting")
    await house.engine.signal(run, "go")
    assert await house.engine.result(run, "20s") == "went on"
    live, replayed = caught
    assert str(live) == str(replayed)
    assert (live.position, live.error_type) == ("1", "ValueError")
    assert "it is broken" in live.why


async def test_an_error_that_no_retry_mends_is_not_retried(house: House) -> None:
    tries: list[int] = []

    async def wrong() -> None:
        tries.append(1)
        raise KeyError("k")

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(wrong, retry=Retry(attempts=5, first=0.001, no_retry_on=(LookupError,)))

    await house.work(flow)
    with pytest.raises(RunFailed, match="KeyError"):
        await house.run(flow)
    assert len(tries) == 1


async def test_a_step_over_its_timeout_fails(house: House) -> None:
    async def slow() -> None:
        await asyncio.sleep(60)

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(slow, timeout="20ms", retry=Retry(attempts=1))

    await house.work(flow)
    with pytest.raises(RunFailed, match="took longer than 20ms"):
        await house.run(flow)


async def test_a_silent_step_is_hung_and_a_beating_one_is_not(house: House) -> None:
    release = threading.Event()

    async def beats() -> str:
        for _ in range(8):
            await asyncio.sleep(0.02)
            relit.heartbeat({"at": 1})
        return "alive"

    def hangs() -> None:
        release.wait(30)

    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        first = await ctx.step(beats, heartbeat="100ms")
        try:
            await ctx.step(hangs, heartbeat="50ms", retry=Retry(attempts=1))
        except StepFailed as error:
            return f"{first}, {error.error_type}"
        return "?"

    await house.work(flow)
    assert await house.run(flow) == "alive, StepHung"
    release.set()


async def test_a_thread_can_send_heartbeats(house: House) -> None:
    pace = threading.Event()

    def beats() -> str:
        for _ in range(8):
            pace.wait(0.02)
            relit.heartbeat()
        return "alive"

    @relit.workflow
    async def flow(ctx: relit.Context) -> str:
        return await ctx.step(beats, heartbeat="120ms", retry=Retry(attempts=1))

    await house.work(flow)
    assert await house.run(flow) == "alive"


async def test_a_result_that_cannot_be_stored_names_its_place(house: House) -> None:
    async def bad() -> Any:
        return {"items": [1, {"client": object()}]}

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.step(bad)

    await house.work(flow)
    with pytest.raises(RunFailed, match=r"\$\.items\[1\]\.client"):
        await house.run(flow)


async def test_an_argument_that_cannot_be_stored_is_refused(house: House) -> None:
    with pytest.raises(Unserialisable, match=r"builtins.object"):
        await house.engine.start(adds, [object()])


async def test_a_call_that_does_not_fit_is_refused(house: House) -> None:
    with pytest.raises(Conflict, match="cannot be called"):
        await house.engine.start(adds, [1, 2, 3])


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
