"""Runs whose journal went back: what is done again, what stays done, and what it finds of the time that was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from durable_house import House
from rewound import ALL, QUICK, Moment, World, begun, drop, effects, flow, kinds, waits_for

import relit
from relit.durable.retry import Retry

# --- steps and effects ---------------------------------------------------------------------------------------------


def effect_of(ctx: relit.Context, world: World, doubt: Any, what: str) -> Any:
    """An effect of any class, whose calls the world counts."""
    if doubt == "ask":
        return ctx.effect(world.post, what, retry=QUICK)
    return ctx.effect(world.pay, what, doubt=doubt, lookup=world.lookup if doubt == "lookup" else None, retry=QUICK)


@pytest.mark.parametrize("doubt", ["key", "lookup", "ask"])
async def test_later_steps_are_done_again_earlier_ones_and_effects_are_not(house: House, doubt: Any) -> None:
    world = World()

    async def tells(ctx: relit.Context) -> list[Any]:
        first = await ctx.step(world.think, "a")
        before = await effect_of(ctx, world, doubt, "early")
        await ctx.signal("go")
        second = await ctx.step(world.think, "b")
        after = await effect_of(ctx, world, doubt, "late")
        await ctx.signal("end")
        return [first, before, second, after]

    await house.work(flow(tells))
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    await waits_for(house, run, "end")
    receipts = [each.result for each in await house.store.effects(run=run, states=("done",))]
    assert await moment.back() == [run]
    await waits_for(house, run, "end")
    assert (world.thought, world.sent) == (["a", "b", "b"], ["early", "late"])
    assert [each.result for each in await house.store.effects(run=run, states=("done",))] == receipts
    await house.engine.signal(run, "end")
    says = (
        {"early": "posted early 1", "late": "posted late 2"}
        if doubt == "ask"
        else {"early": "paid early", "late": "paid late"}
    )
    assert await house.engine.result(run, "20s") == ["a!", says["early"], "b!", says["late"]]
    assert await kinds(house, run) == [
        "step", "effect", "superseded", "superseded", "superseded", "signal", "step", "effect", "signal",
    ]  # fmt: skip
    tried = [(each.kind, each.attempts) for each in await house.store.steps(run)]
    assert tried[-2] == ("effect", 0), "no call was made for it"


async def test_another_way_finds_its_effects_wherever_it_comes_to_them(house: House) -> None:
    world = World()
    world.answers["plan"] = ["rent,tax", "food,tax,rent"]

    async def tells(ctx: relit.Context) -> list[str]:
        await ctx.signal("go")
        plan = await ctx.step(world.think, "plan")
        return [await ctx.effect(world.pay, what, doubt="key") for what in plan.split(",")]

    await house.work(flow(tells))
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    assert await house.engine.result(run, "20s") == ["paid rent", "paid tax"]
    assert await moment.back("redeliver") == [run]
    assert await house.engine.result(run, "20s") == ["paid food", "paid tax", "paid rent"]
    assert world.sent == ["rent", "tax", "food"]
    assert len(set(world.keys)) == 3, "another effect where one was done is another one to the receiver"
    assert await effects(house, run) == [("3", "done"), ("4", "done"), ("5", "done")]


async def test_effects_that_nobody_comes_to_again_are_no_mismatch(house: House) -> None:
    world = World()
    world.answers["plan"] = ["much", "little"]

    async def tells(ctx: relit.Context) -> str:
        await ctx.signal("go")
        if await ctx.step(world.think, "plan") == "much":
            await ctx.effect(world.post, "letter")
            await ctx.sleep("1h")
        return "rested"

    await house.work(flow(tells))
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    await house.until(run, lambda found: found.reason == "sleep")
    await moment.back()
    assert await house.engine.result(run, "20s") == "rested"
    assert (await effects(house, run), world.sent) == ([("3@2", "kept")], ["letter"])


async def test_of_equal_effects_each_recorded_one_counts_once(house: House) -> None:
    world = World()
    world.answers["many"] = ["2", "3", "1", "4"]

    async def tells(ctx: relit.Context) -> list[str]:
        await ctx.signal("go")
        return [await ctx.effect(world.post, "ping") for _ in range(int(await ctx.step(world.think, "many")))]

    await house.work(flow(tells))
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    first, second = await house.engine.result(run, "20s")
    await moment.back("redeliver")
    assert await house.engine.result(run, "20s") == [first, second, "posted ping 3"]
    await moment.back("redeliver")
    assert await house.engine.result(run, "20s") == [first]
    await moment.back("redeliver")
    fourth = await house.engine.result(run, "20s")
    assert sorted(fourth) == sorted([first, second, "posted ping 3", "posted ping 4"])
    assert len(world.sent) == 4


@pytest.mark.parametrize("together", [False, True])
async def test_a_crash_after_a_remembered_effect_neither_repeats_nor_forgets_one(house: House, together: bool) -> None:
    world = World()

    async def branch(ctx: relit.Context, first: bool) -> str:
        if first and together:
            await ctx.step(world.block)
        answer = await ctx.effect(world.post, "ping")
        if first and not together:
            await ctx.step(world.block)
        return str(answer)

    async def tells(ctx: relit.Context) -> list[str]:
        await ctx.signal("go")
        if together:
            return await ctx.gather(branch(ctx, True), branch(ctx, False))
        return [await branch(ctx, True), await branch(ctx, False)]

    definition = flow(tells)
    worker = await house.work(definition)
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    before = await house.engine.result(run, "20s")
    world.hold, world.entered = asyncio.Event(), asyncio.Event()
    await moment.back("redeliver")
    await world.entered.wait()
    async with asyncio.timeout(20):
        while ("effect", 0) not in [(each.kind, each.attempts) for each in await house.store.steps(run)]:
            await asyncio.sleep(0.01)
    await drop(house, worker)
    world.hold.set()
    await house.work(definition)
    assert sorted(await house.engine.result(run, "20s")) == sorted(before)
    assert len(world.sent) == 2


async def test_a_run_goes_back_and_back_again(house: House) -> None:
    world = World()

    async def tells(ctx: relit.Context) -> int:
        for n in range(3):
            await ctx.signal("go")
            await ctx.step(world.think, str(n))
            await ctx.effect(world.post, f"letter {n}")
        return len(world.sent)

    await house.work(flow(tells))
    run = await begun(house)
    moments = []
    for _ in range(2):
        moments.append(await Moment.now(house))
        await house.engine.signal(run, "go")
        count = len(world.sent) + 1
        async with asyncio.timeout(20):
            while len(world.sent) < count or (await house.store.run(run)).state != "waiting":
                await asyncio.sleep(0.01)
    for moment in (moments[1], moments[0], moments[1]):
        await moment.back()
    async with asyncio.timeout(20):  # both signals are there again
        while (await kinds(house, run)).count("effect") < 2:
            await asyncio.sleep(0.01)
    await house.engine.signal(run, "go")
    assert await house.engine.result(run, "20s") == 3
    assert world.sent == ["letter 0", "letter 1", "letter 2"]


# --- what was under way --------------------------------------------------------------------------------------------


async def under_way(house: House, world: World, doubt: Any) -> tuple[str, Moment]:
    """A run that goes back while it is in the middle of an effect, and then takes another way to it."""
    world.answers["plan"] = ["direct", "detour"]

    async def tells(ctx: relit.Context) -> str:
        await ctx.signal("go")
        if await ctx.step(world.think, "plan") == "detour":
            await ctx.step(world.think, "scenery")
        lookup = world.lookup if doubt == "lookup" else None
        return str(await ctx.effect(world.pay, "rent", doubt=doubt, lookup=lookup, retry=QUICK))

    definition = flow(tells)
    worker = await house.work(definition)
    run = await begun(house)
    moment = await Moment.now(house)
    world.hold = asyncio.Event()
    await house.engine.signal(run, "go")
    await world.entered.wait()
    await drop(house, worker)
    world.hold = None
    assert await moment.back() == [run]
    assert await effects(house, run) == [("3@2", "open")]
    await house.work(definition)
    return run, moment


async def test_an_open_effect_is_sent_again_under_its_first_key(house: House) -> None:
    world = World()
    run, _ = await under_way(house, world, "key")
    assert await house.engine.result(run, "20s") == "paid rent"
    assert (len(world.keys), len(set(world.keys))) == (2, 1)
    assert await effects(house, run) == [("4", "done")]


async def test_an_open_effect_is_looked_up_under_its_first_key(house: House) -> None:
    world = World()
    run, _ = await under_way(house, world, "lookup")
    assert await house.engine.result(run, "20s") == "paid rent"
    assert world.sent == ["rent"]


@pytest.mark.parametrize("happened", [True, False])
async def test_a_person_is_asked_about_an_open_effect(house: House, happened: bool) -> None:
    world = World()
    run, moment = await under_way(house, world, "ask")
    await house.until_state(run, "parked")
    assert await effects(house, run) == [("4", "in_doubt")]
    await moment.back()  # once more, before anybody has answered
    world.answers["plan"] = ["direct"]
    (adrift,) = await house.store.effects(run=run, states=("in_doubt",))
    await house.engine.resolve(run, adrift.pos, happened, "paid by hand" if happened else None)
    assert await house.engine.result(run, "20s") == ("paid by hand" if happened else "paid rent")
    assert world.sent == ["rent"] if happened else ["rent", "rent"]


async def test_a_worker_that_lives_on_writes_nothing_more(house: House) -> None:
    world = World()
    world.hold = asyncio.Event()

    async def tells(ctx: relit.Context) -> str:
        await ctx.signal("go")
        await ctx.step(world.block)
        return str(await ctx.effect(world.post, "letter"))

    definition = flow(tells)
    zombie = await house.work(definition)
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    await world.entered.wait()
    assert await moment.back() == [run], "the signal was taken since"
    held, world.hold = world.hold, None
    await house.work(definition)
    assert await house.engine.result(run, "20s") == "posted letter 1"
    held.set()
    await house.until_idle(zombie)
    assert world.sent == ["letter"]
    assert (await kinds(house, run)).count("step") == 1


async def test_what_failed_since_is_forgotten_and_leaves_its_place(house: House) -> None:
    world = World()
    world.answers["plan"] = ["break", "post"]

    async def breaks(what: str) -> None:
        raise relit.errors.EffectNotDone("the pen broke")

    async def tells(ctx: relit.Context) -> str:
        await ctx.signal("go")
        if await ctx.step(world.think, "plan") == "post":
            return str(await ctx.effect(world.post, "letter"))
        await ctx.effect(breaks, "letter", retry=Retry(attempts=1))
        return "never"

    workflow = relit.workflow(name="tells", agent="test", retry=Retry(attempts=1))(tells)
    await house.work(workflow)
    run = await begun(house)
    moment = await Moment.now(house)
    await house.engine.signal(run, "go")
    await house.until_state(run, "failed")
    await moment.back("redeliver")
    assert await house.engine.result(run, "20s") == "posted letter 1"
    (found,) = await house.store.effects(run=run, states=ALL)
    assert (found.pos, found.name, found.state) == ("3", "post", "done")
