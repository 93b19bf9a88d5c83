"""What a run finds whose journal went back: signals, timers, its stream, and other runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from durable_house import House
from rewound import Moment, World, begun, drop, flow, waits_for

import relit
from relit.store.values import Messages

# --- signals, timers, values, streams ------------------------------------------------------------------------------


async def test_signals_are_there_again_in_their_order(house: House) -> None:
    world = World()

    async def tells(ctx: relit.Context) -> list[Any]:
        first = await ctx.signal("word")
        await ctx.signal("go")
        rest = [await ctx.signal("word") for _ in range(2)]
        await ctx.signal("end")
        return [first, *rest]

    await house.work(flow(tells))
    run = await begun(house)
    await house.engine.signal(run, "word", "a")
    await waits_for(house, run, "go")
    moment = await Moment.now(house)
    for name, payload in (("go", None), ("word", "b"), ("word", "c")):
        await house.engine.signal(run, name, payload)
    await waits_for(house, run, "end")
    await moment.back()
    await house.engine.signal(run, "end")
    assert await house.engine.result(run, "20s") == ["a", "b", "c"]
    assert world.sent == []


async def test_a_timer_that_began_since_runs_anew(house: House) -> None:
    async def tells(ctx: relit.Context) -> None:
        await ctx.signal("go")
        await ctx.sleep("1h")

    await house.work(flow(tells))
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    first = (await house.until(run, lambda found: found.reason == "sleep")).wake_at
    await moment.back()
    again = (await house.until(run, lambda found: found.reason == "sleep")).wake_at
    assert first is not None
    assert again is not None
    assert again > first


async def test_values_and_patches_of_later_are_made_anew(house: House) -> None:
    seen: list[tuple[bool, Any]] = []
    new = [False]

    async def tells(ctx: relit.Context) -> bool:
        await ctx.signal("go")
        patched = ctx.patched("new") if new[0] else False
        seen.append((patched, ctx.now()))
        await ctx.signal("end")
        return patched

    await house.work(flow(tells))
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    await waits_for(house, run, "end")
    new[0] = True
    await moment.back()
    await waits_for(house, run, "end")
    await house.engine.signal(run, "end")
    assert await house.engine.result(run, "20s") is True
    assert [patched for patched, _ in seen] == [False, True, True]
    assert seen[0][1] < seen[1][1] == seen[2][1]


async def test_what_is_emitted_again_reaches_those_who_follow(house: House) -> None:
    world = World()
    world.answers["word"] = ["first", "second"]

    async def tells(ctx: relit.Context) -> None:
        ctx.emit("start")
        await ctx.signal("go")
        ctx.emit(await ctx.step(world.think, "word"))
        await ctx.signal("end")

    await house.work(flow(tells))
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    await waits_for(house, run, "end")
    await moment.back()
    await waits_for(house, run, "end")
    await house.engine.signal(run, "end")
    await house.engine.result(run, "20s")
    items = [await house.engine.payloads.decode(each.data, str) for each in await house.store.stream(run)]
    assert items == ["start", "first", "second"]


# --- other runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("agent", "worked"), [("test", 2), ("other", 1)])
async def test_a_child_goes_back_with_its_agent_and_repeats_no_effect(house: House, agent: str, worked: int) -> None:
    world = World()

    @relit.workflow(name="helps", agent=agent)
    async def helps(ctx: relit.Context) -> str:
        await ctx.step(world.think, "help")
        return str(await ctx.effect(world.post, "help"))

    async def tells(ctx: relit.Context) -> Any:
        await ctx.signal("go")
        return await ctx.child(helps)

    await house.work(flow(tells), helps)
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    answer = await house.engine.result(run, "20s")
    await moment.back("redeliver")
    assert await house.engine.result(run, "20s") == answer
    assert (world.thought, world.sent) == (["help"] * worked, ["help"])
    assert len(await house.store.runs(parent=run)) == 1


async def test_another_child_or_message_at_the_same_place_is_another_run(house: House) -> None:
    world = World()
    world.answers["word"] = ["one", "one", "two"]
    got: list[str] = []

    @relit.workflow(name="helps", agent="other")
    async def helps(ctx: relit.Context, word: str) -> str:
        return f"helped with {word}"

    @relit.agent(name="friend")
    async def friend(ctx: relit.Context, message: str) -> None:
        got.append(message)

    async def tells(ctx: relit.Context) -> Any:
        await ctx.signal("go")
        word = await ctx.step(world.think, "word")
        await ctx.send(friend, word)
        return await ctx.child(helps, word)

    await house.work(flow(tells), helps, friend)
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    answers = [await house.engine.result(run, "20s")]
    for _ in range(2):
        await moment.back("redeliver")
        answers.append(await house.engine.result(run, "20s"))
    assert answers == ["helped with one", "helped with one", "helped with two"]
    assert len(await house.store.runs(parent=run)) == 2
    async with asyncio.timeout(20):
        while len([each for each in await house.store.runs(agent="friend") if each.final]) < 2:
            await asyncio.sleep(0.01)
    assert got == ["one", "two"]


@pytest.mark.parametrize(
    ("messages", "worked"), [("keep", ["m1", "m2"]), ("redeliver", ["m1", "m1", "m2"]), ("drop", ["m1"])]
)
async def test_messages_that_came_since(house: House, messages: Messages, worked: list[str]) -> None:
    world = World()

    @relit.agent(name="test")
    async def test(ctx: relit.Context, message: str) -> None:
        await ctx.step(world.think, message)
        await ctx.effect(world.post, message)

    worker = await house.work(test)
    moment = await Moment.now(house)
    first = (await house.engine.send("test", "m1")).id
    await house.until_state(first, "completed")
    await drop(house, worker)
    second = (await house.engine.send("test", "m2")).id
    await moment.back(messages)
    await house.work(test)
    await house.until_state(second, "completed", "cancelled")
    await house.until_state(first, "completed")
    assert sorted(world.thought) == worked
    assert sorted(world.sent) == sorted(set(worked))
