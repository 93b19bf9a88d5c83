"""Steps of a run, end to end on a real store: results, failures, retries, time limits, heartbeats."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from durable_house import House
from workflow_parts import QUICK, Note, Point, Verdict, adds, boom, where_am_i

import relit
from relit.durable.retry import Retry
from relit.errors import (
    Conflict,
    RunFailed,
    StepFailed,
    Unserialisable,
)


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
