"""Effects end to end: intent, act, receipt; what each class does about a doubt."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from durable_house import House

import relit
from relit.durable import faults
from relit.durable.retry import Retry
from relit.errors import EffectNotDone, RunFailed
from relit.lib import proc
from relit.lib.ids import derived_id
from relit.store.values import Effect, Fence, WorkerInfo

QUICK = Retry(attempts=3, first=0.001, jitter=0)


class World:
    """What effects change: honours idempotency keys, and can be made to misbehave."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.done: dict[str, str] = {}
        self.entered = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.errors: list[Exception] = []
        self.looked = 0

    async def pay(self, what: str, *, idempotency_key: str) -> str:
        self.calls.append(idempotency_key)
        self.entered.set()
        if self.errors:
            raise self.errors.pop(0)
        self.done[idempotency_key] = f"paid {what}"
        if self.hold is not None:
            await self.hold.wait()
        return self.done[idempotency_key]

    async def lookup(self, key: str) -> str | None:
        self.looked += 1
        return self.done.get(key)


def paying(world: World, doubt: Any, **options: Any) -> relit.Workflow[Any]:
    @relit.workflow(name="pays", agent="test")
    async def pays(ctx: relit.Context) -> str:
        lookup = world.lookup if doubt == "lookup" else None
        return await ctx.effect(world.pay, "rent", doubt=doubt, lookup=lookup, retry=QUICK, **options)

    return pays


async def interrupted(house: House, world: World, flow: relit.Workflow[Any]) -> str:
    """A run whose worker went away in the middle of the effect; the effect itself happened."""
    world.hold = asyncio.Event()
    worker = await house.work(flow)
    run = await house.engine.start(flow)
    await world.entered.wait()
    await worker.stop()
    world.hold = None
    return run


async def states(house: House, run: str) -> list[str]:
    return [e.state for e in await house.store.effects(run=run, states=("open", "in_doubt", "done", "failed"))]


async def test_an_effect_has_an_intent_and_a_receipt(house: House) -> None:
    world = World()
    await house.work(paying(world, "key"))
    run = await house.engine.start("test/pays")
    assert await house.engine.result(run, "20s") == "paid rent"
    (effect,) = await house.store.effects(run=run, states=("done",))
    assert effect.key == key_of(house, run, "1", "pay", "rent") == world.calls[0]
    assert effect.deadline_at == effect.intent_at + 60_000
    assert [s.kind for s in await house.store.steps(run)] == ["effect"]


async def test_key_calls_again_with_the_same_key(house: House) -> None:
    world = World()
    flow = paying(world, "key")
    run = await interrupted(house, world, flow)
    await house.work(flow)
    assert await house.engine.result(run, "20s") == "paid rent"
    assert len(world.calls) == 2
    assert len(set(world.calls)) == 1


async def test_lookup_finds_what_happened_and_does_not_repeat_it(house: House) -> None:
    world = World()
    flow = paying(world, "lookup")
    run = await interrupted(house, world, flow)
    await house.work(flow)
    assert await house.engine.result(run, "20s") == "paid rent"
    assert len(world.calls) == 1


async def test_a_negative_lookup_is_trusted_only_after_the_deadline(house: House) -> None:
    world = World()
    world.errors = [ConnectionError("cut")]
    await house.work(paying(world, "lookup", timeout="300ms"))
    run = await house.engine.start("test/pays")
    assert await house.engine.result(run, "20s") == "paid rent"
    assert len(world.calls) == 2
    assert world.looked == 2  # at once, and again after the deadline
    (step,) = await house.store.steps(run)
    assert step.attempts == 2


async def test_ask_parks_the_run_and_a_person_decides_that_it_happened(house: House) -> None:
    world = World()
    flow = paying(world, "ask")
    run = await interrupted(house, world, flow)
    await house.work(flow)
    found = await house.until_state(run, "parked")
    assert found.reason == "effect-in-doubt"
    assert "relit effects resolve" in faults.load(found.error or b"").fix
    assert await states(house, run) == ["in_doubt"]
    await house.engine.resolve(run, "1", True, "paid by hand")
    assert await house.engine.result(run, "20s") == "paid by hand"
    assert len(world.calls) == 1


async def test_ask_parks_the_run_and_a_person_decides_that_it_did_not_happen(house: House) -> None:
    world = World()
    flow = paying(world, "ask")
    run = await interrupted(house, world, flow)
    await house.work(flow)
    await house.until_state(run, "parked")
    await house.engine.resolve(run, "1", False)
    assert await house.engine.result(run, "20s") == "paid rent"
    assert len(world.calls) == 2


async def test_an_error_of_an_ask_effect_is_a_doubt_too(house: House) -> None:
    world = World()
    world.errors = [ConnectionError("cut")]
    await house.work(paying(world, "ask"))
    run = await house.engine.start("test/pays")
    await house.until_state(run, "parked")
    assert len(world.calls) == 1


async def test_an_effect_that_certainly_did_not_happen_fails(house: House) -> None:
    world = World()
    world.errors = [EffectNotDone("the bank is closed")]
    await house.work(paying(world, "ask"))
    run = await house.engine.start("test/pays")
    with pytest.raises(RunFailed, match="the bank is closed"):
        await house.engine.result(run, "20s")
    assert await states(house, run) == ["failed"]


async def test_key_is_tried_again_after_an_error(house: House) -> None:
    world = World()
    world.errors = [ConnectionError("cut"), ConnectionError("cut")]
    await house.work(paying(world, "key"))
    assert await house.run("test/pays") == "paid rent"
    assert len(world.calls) == 3
    assert len(set(world.calls)) == 1


async def test_a_key_effect_needs_a_parameter_for_the_key(house: House) -> None:
    async def no_key() -> None: ...

    @relit.workflow
    async def flow(ctx: relit.Context) -> None:
        await ctx.effect(no_key, doubt="key")

    await house.work(flow)
    with pytest.raises(RunFailed, match="cannot be of the class 'key'"):
        await house.run(flow)


async def test_an_effect_of_a_worker_that_only_seems_dead_is_left_alone_until_its_deadline(house: House) -> None:
    world = World()
    me = proc.myself()
    info = WorkerInfo(
        id="old", host="h", pid=me.pid, start=me.start, boot=me.boot, namespace=me.namespace, targets=["test/pays"]
    )
    await house.store.join(info, 150)
    run = await house.engine.start("test/pays")
    await house.store.claim("old", ["test/pays"], 1)
    flow = paying(world, "key")
    hash = _hash_of(house, "rent")
    now = house.engine.clock.now_ms()
    deadline = now + 700
    await house.store.intend(
        Fence(run, 1),
        Effect(
            run=run, pos="1", name="pay", doubt="key", key="as it was", state="open", hash=hash,
            intent_at=now, deadline_at=deadline,
        ),
    )  # fmt: skip
    while (await house.store.run(run)).taken_over != "expiry":
        await house.ticker.reap_once()
    assert house.engine.clock.now_ms() < deadline
    await house.work(flow)
    assert await house.engine.result(run, "20s") == "paid rent"
    (step,) = await house.store.steps(run)
    assert step.started_at >= deadline
    assert world.calls == ["as it was"]


def key_of(house: House, run: str, pos: str, name: str, *args: Any) -> str:
    """The key of an effect: its own, however often it is sent."""
    return derived_id(run, pos, name, _hash_of(house, *args).hex())


def _hash_of(house: House, *args: Any) -> bytes:
    """The input hash as an execution computes it."""
    return hashlib.blake2b(house.engine.payloads.packer.canonical((args,)), digest_size=8).digest()


async def test_a_decorated_effect_brings_its_options(house: House) -> None:
    calls: list[str] = []

    @relit.effect(doubt="key", timeout="5s", name="post")
    def post(text: str, *, idempotency_key: str) -> int:
        calls.append(idempotency_key)
        return len(text)

    @relit.tool(effect="key")
    def shout(text: str, *, idempotency_key: str = "") -> str:
        """Say it loudly."""
        calls.append(idempotency_key)
        return text.upper()

    @relit.workflow
    async def flow(ctx: relit.Context) -> list[Any]:
        return [await ctx.effect(post, "abc"), await ctx.effect(shout, "abc")]

    await house.work(flow)
    run = await house.engine.start(flow)
    assert await house.engine.result(run, "20s") == [3, "ABC"]
    assert calls == [key_of(house, run, "1", "post", "abc"), key_of(house, run, "2", "shout", "abc")]
    assert [s.name for s in await house.store.steps(run)] == ["post", "shout"]
