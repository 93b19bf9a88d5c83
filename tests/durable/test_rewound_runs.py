"""Runs whose journal went back: what is done again, what stays done, and what it finds of the time that was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from durable_house import House

import relit
from relit.durable.retry import Retry
from relit.durable.worker import Worker
from relit.store.values import Messages, Rewind, Run

QUICK = Retry(attempts=2, first=0.001, jitter=0)
ALL = ("open", "in_doubt", "done", "failed", "kept")


class Moment:
    """What a snapshot of the agent ``test`` remembers of its journal."""

    def __init__(self, house: House, at_ms: int, runs: dict[str, int]) -> None:
        self._house = house
        self.at_ms = at_ms
        self.runs = runs

    @classmethod
    async def now(cls, house: House) -> Moment:
        store, at_ms = house.store, await house.store.now_ms()
        found = [run.id for run in await store.runs(agent="test", limit=1000) if not run.final]
        runs = {run: max((each.seq for each in await store.steps(run)), default=0) for run in found}
        while await store.now_ms() == at_ms:
            await asyncio.sleep(0)
        return cls(house, at_ms, runs)

    async def back(self, messages: Messages = "keep") -> list[str]:
        wanted = Rewind(agent="test", at_ms=self.at_ms, event="", runs=self.runs, messages=messages)
        return await self._house.store.rewind(wanted)


class World:
    """What really happened."""

    def __init__(self) -> None:
        self.thought: list[str] = []
        self.sent: list[str] = []
        self.keys: list[str] = []
        self.done: dict[str, str] = {}
        self.answers: dict[str, list[str]] = {}
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def think(self, about: str) -> str:
        """A step that may answer something else each time."""
        self.thought.append(about)
        return self.answers[about].pop(0) if self.answers.get(about) else f"{about}!"

    async def block(self) -> None:
        self.entered.set()
        if self.hold is not None:
            await self.hold.wait()

    async def post(self, what: str) -> str:
        self.sent.append(what)
        return f"posted {what} {len(self.sent)}"

    async def pay(self, what: str, *, idempotency_key: str) -> str:
        self.sent.append(what)
        self.keys.append(idempotency_key)
        self.done[idempotency_key] = f"paid {what}"
        await self.block()
        return self.done[idempotency_key]

    async def lookup(self, key: str) -> str | None:
        return self.done.get(key)


def flow(fn: Callable[[relit.Context], Any], name: str = "tells") -> relit.Workflow[Any]:
    return relit.workflow(name=name, agent="test", retry=QUICK)(fn)


async def begun(house: House, target: str = "test/tells") -> str:
    """A run that waits for the signal ``go``."""
    run = await house.engine.start(target)
    await house.until_state(run, "waiting")
    return run


async def kinds(house: House, run: str) -> list[str]:
    return [each.kind for each in await house.store.steps(run)]


async def effects(house: House, run: str) -> list[tuple[str, str]]:
    return sorted((each.pos, each.state) for each in await house.store.effects(run=run, states=ALL))


async def waits_for(house: House, run: str, name: str) -> Run:
    def right(found: Run) -> bool:
        return found.state == "waiting" and found.reason == f"signal {name}"

    return await house.until(run, right)


async def drop(house: House, worker: Worker) -> None:
    """The worker goes away in the middle of whatever it does."""
    await worker.stop()
    house.workers.remove(worker)


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
