"""Every store: what becomes of runs that ended, or came, after the moment that an agent goes back to."""

from __future__ import annotations

import pytest
from conformance import (
    COMPLETED,
    Time,
    add,
    effect,
    ended,
    fence,
    join,
    message,
    new_run,
    running,
    signal_wait,
    states,
    step,
)
from moments import Moment, act, again, effects, journal

from relit.store.base import Store
from relit.store.values import Finish, Messages, Run, Wait

# --- runs that ended, or came, since -------------------------------------------------------------------------------


async def finished_since(store: Store, time: Time) -> tuple[Run, Moment]:
    """A run that took a step before the moment and an effect after it, and completed."""
    run = await running(store)
    await store.append(fence(run), [step(1)])
    moment = await Moment.now(store, time)
    await act(store, run, 2)
    await store.finish(fence(run), COMPLETED)
    return run, moment


@pytest.mark.parametrize("messages", ["keep", "drop"])
async def test_a_run_that_ended_since_stays_as_it_is(store: Store, time: Time, messages: Messages) -> None:
    run, moment = await finished_since(store, time)
    before = await store.run(run.id), await journal(store, run.id)
    assert await moment.back(store, messages) == []
    assert (await store.run(run.id), await journal(store, run.id)) == before


async def test_a_run_that_ended_since_is_delivered_again_and_its_effects_are_kept(store: Store, time: Time) -> None:
    run, moment = await finished_since(store, time)
    assert await moment.back(store, "redeliver") == [run.id]
    found = await store.run(run.id)
    assert (found.state, found.output, found.finished_at, found.attempt) == ("available", None, None, 0)
    assert await journal(store, run.id) == [(1, "step", "1"), (2, "superseded", "~2")]
    assert await effects(store, run.id) == [("2@1", "kept")]


@pytest.mark.parametrize("messages", ["keep", "redeliver", "drop"])
async def test_a_run_that_ended_before_is_never_touched(store: Store, time: Time, messages: Messages) -> None:
    run = await ended(store)
    before = await store.run(run.id)
    await time.advance(1)
    moment = await Moment.now(store, time)
    assert await moment.back(store, messages) == []
    assert await store.run(run.id) == before
    assert (await moment.since(store)).runs == []


@pytest.mark.parametrize(
    ("messages", "begun", "untouched", "done"),
    [
        ("keep", "available", "available", "completed"),
        ("redeliver", "available", "available", "available"),
        ("drop", "cancelled", "cancelled", "completed"),
    ],
)
async def test_runs_that_came_since(
    store: Store, time: Time, messages: Messages, begun: str, untouched: str, done: str
) -> None:
    await join(store)
    moment = await Moment.now(store, time)
    first = await running(store)
    await act(store, first, 1)
    second = await ended(store)
    third = await add(store)
    await moment.back(store, messages)
    assert await states(store, [first.id, third, second.id]) == [begun, untouched, done]
    if messages != "drop":
        assert await effects(store, first.id) == [("1@1", "kept")]
    else:
        assert await effects(store, first.id) == [("1", "done")]


async def test_messages_are_delivered_again_in_the_order_in_which_they_came(store: Store, time: Time) -> None:
    await join(store)
    moment = await Moment.now(store, time)
    came = []
    for _ in range(3):
        came.append((await store.enqueue([message()]))[0].id)
        await time.advance(1)
    for id_ in came[:2]:
        run = await again(store, id_)
        await store.append(fence(run), [step(1)])
        await store.finish(fence(run), COMPLETED)
    last = await again(store, came[2])
    await store.append(fence(last), [step(1)])
    await store.suspend(fence(last), [signal_wait(pos="2")], "signal")  # it holds the mailbox's place
    await moment.back(store, "redeliver")
    for id_ in came:
        await store.finish(fence(await again(store, id_)), COMPLETED)


async def test_a_run_that_went_on_as_another_is_not_delivered_again(store: Store, time: Time) -> None:
    first = await running(store)
    moment = await Moment.now(store, time)
    following = new_run()
    await store.finish(fence(first), Finish(state="completed", reason="continued", next_run=following))
    claimed = await again(store, following.id)
    await store.append(fence(claimed), [step(1)])
    assert await moment.back(store, "redeliver") == [following.id]
    assert await states(store, [first.id, following.id]) == ["completed", "available"]


# --- children ------------------------------------------------------------------------------------------------------


async def family(store: Store, time: Time, agent: str = "a") -> tuple[Run, str, Moment]:
    """A parent that has waited since the moment for a child that has begun since."""
    parent = await running(store)
    moment = await Moment.now(store, time)
    await store.append(fence(parent), [step(1)])
    child = await add(store, agent=agent, parent=parent.id, parent_pos="2")
    assert await store.suspend(fence(parent), [Wait(pos="2", kind="child", name=child)], "child")
    return parent, child, moment


@pytest.mark.parametrize("messages", ["keep", "redeliver", "drop"])
async def test_a_child_goes_back_with_its_parent(store: Store, time: Time, messages: Messages) -> None:
    parent, child, moment = await family(store, time)
    claimed = await again(store, child)
    await act(store, claimed, 1)
    assert await moment.back(store, messages) == sorted([parent.id, child])
    assert await states(store, [parent.id, child]) == ["available", "available"]
    assert await effects(store, child) == [("1@1", "kept")]


async def test_a_child_of_a_dropped_run_is_dropped_with_it(store: Store, time: Time) -> None:
    moment = await Moment.now(store, time)
    parent, child, _ = await family(store, time)
    await moment.back(store, "drop")
    assert await states(store, [parent.id, child]) == ["cancelled", "cancelled"]


async def test_the_children_of_other_agents_are_not_touched(store: Store, time: Time) -> None:
    parent, child, moment = await family(store, time, agent="b")
    before = await store.run(child)
    assert await moment.back(store, "redeliver") == [parent.id]
    assert await store.run(child) == before


async def test_a_child_that_ended_since_is_delivered_again_with_its_parent(store: Store, time: Time) -> None:
    parent, child, moment = await family(store, time)
    claimed = await again(store, child)
    await store.finish(fence(claimed), COMPLETED)
    await moment.back(store, "redeliver")
    assert await states(store, [parent.id, child]) == ["available", "available"]


async def test_other_agents_are_not_touched(store: Store, time: Time) -> None:
    await join(store, "worker", "a/w", "b/w")
    other = await add(store, agent="b")
    moment = await Moment.now(store, time)
    (claimed,) = await store.claim("worker", ["b/w"], 1)
    await store.append(fence(claimed), [step(1)])
    assert await moment.back(store, "drop") == []
    await store.append(fence(claimed), [step(2)])
    assert await states(store, [other]) == ["running"]


# --- what happened since -------------------------------------------------------------------------------------------


async def test_what_happened_since_is_listed_oldest_first(store: Store, time: Time) -> None:
    run, moment = await finished_since(store, time)
    await time.advance(1)
    late = await running(store)
    await act(store, late, 1, name="mail")
    await store.intend(fence(late), effect(late.id, "2", name="call", intent_at=await store.now_ms() + 1))
    found = await moment.since(store)
    assert [each.id for each in found.runs] == [run.id, late.id]
    assert [(each.name, each.state) for each in found.effects] == [("pay", "done"), ("mail", "done"), ("call", "open")]
    assert found.steps == {run.id: 1, late.id: 1}
    await moment.back(store, "redeliver")
    after = await moment.since(store)
    assert [(each.name, each.state) for each in after.effects] == [("pay", "kept"), ("mail", "kept"), ("call", "open")]
    assert after.steps == {run.id: 0, late.id: 0}
