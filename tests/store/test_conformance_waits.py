"""Every store: waiting for signals, children and timers; effects; time."""

from __future__ import annotations

import asyncio

import pytest
from conformance import (
    COMPLETED,
    HOUR,
    MINUTE,
    Time,
    add,
    claim,
    effect,
    event_names,
    fence,
    join,
    running,
    signal_wait,
    states,
    step,
    waiting,
)

from relit.errors import Conflict, NotFound
from relit.store.base import Store
from relit.store.values import Finish, Signal, Wait


def signal(run: str, name: str = "go", id_: str = "s", payload: bytes = b"p") -> Signal:
    return Signal(id=id_, run=run, name=name, payload=payload, at=0)


async def test_a_waiting_run_is_a_row_without_a_worker(store: Store) -> None:
    run = await waiting(store)
    assert (run.state, run.reason, run.worker, run.wake_at) == ("waiting", "signal", None, None)
    assert await claim(store) == []
    assert [(wait.kind, wait.name) for wait in await store.waits(run.id)] == [("signal", "go")]


async def test_a_signal_wakes_the_run_that_waits_for_it(store: Store) -> None:
    run = await waiting(store)
    assert await store.signal(signal(run.id, "other", "s1"))
    assert await states(store, [run.id]) == ["waiting"]
    assert await store.signal(signal(run.id, "go", "s2"))
    [again] = await claim(store)
    assert (again.id, again.epoch) == (run.id, 2)
    journal = await store.journal(run.id)
    assert [each.id for each in journal.signals] == ["s1", "s2"]
    assert journal.signals[1].payload == b"p"


async def test_a_signal_is_delivered_once(store: Store) -> None:
    run = await waiting(store)
    results = await asyncio.gather(*(store.signal(signal(run.id)) for _ in range(8)))
    assert sorted(results) == [False] * 7 + [True]
    assert len((await store.arrivals(run.id)).signals) == 1


async def test_signals_to_nobody_or_to_the_ended_are_refused(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.signal(signal("nobody"))
    run = await running(store)
    await store.finish(fence(run), COMPLETED)
    with pytest.raises(Conflict):
        await store.signal(signal(run.id))


async def test_a_run_does_not_wait_for_a_signal_that_is_there(store: Store) -> None:
    run = await running(store)
    await store.signal(signal(run.id))
    assert not await store.suspend(fence(run), [signal_wait()], "signal")
    assert (await store.run(run.id)).state == "running"
    await store.append(fence(run), [step(1, kind="signal")], consume=["s"])
    assert await store.suspend(fence(run), [signal_wait(pos="2")], "signal")


async def test_signals_and_suspensions_that_cross_lose_nothing(store: Store) -> None:
    await join(store)
    for _ in range(20):
        await add(store)
    runs = await claim(store)
    sends = [store.signal(signal(run.id, id_=run.id)) for run in runs]
    waits = [store.suspend(fence(run), [signal_wait()], "signal") for run in runs]
    results = await asyncio.gather(*(work for pair in zip(sends, waits, strict=True) for work in pair))
    for run, suspended in zip(runs, results[1::2], strict=True):
        assert (await store.run(run.id)).state == ("available" if suspended else "running")


async def test_a_timer_wakes_when_it_is_due(store: Store, time: Time) -> None:
    at = await store.now_ms() + MINUTE
    run = await waiting(store, Wait(pos="1", kind="timer", wake_at=at))
    assert run.wake_at == at
    due = await store.promote()
    assert due is not None
    assert MINUTE / 2 < due <= MINUTE
    assert await states(store, [run.id]) == ["waiting"]
    await time.advance(MINUTE)
    assert await store.promote() is None
    assert await states(store, [run.id]) == ["available"]


async def test_a_passed_timer_is_not_waited_for(store: Store) -> None:
    run = await running(store)
    past = Wait(pos="1", kind="timer", wake_at=await store.now_ms() - 1)
    assert not await store.suspend(fence(run), [past], "timer")


async def test_the_first_moment_of_a_wait_stands_but_each_retry_has_its_own(store: Store, time: Time) -> None:
    now = await store.now_ms()
    first = [Wait(pos="1", kind="timer", wake_at=now + HOUR), Wait(pos="2", kind="retry", wake_at=now + MINUTE)]
    run = await waiting(store, *first)
    await time.advance(MINUTE)
    await store.promote()
    [again] = await claim(store)
    later = [Wait(pos="1", kind="timer", wake_at=now + 9 * HOUR), Wait(pos="2", kind="retry", wake_at=now + 3 * HOUR)]
    assert await store.suspend(fence(again), later, "retry")
    assert [wait.wake_at for wait in await store.waits(run.id)] == [now + HOUR, now + 3 * HOUR]
    assert (await store.run(run.id)).wake_at == now + HOUR


async def test_the_earliest_of_many_waits_wakes(store: Store, time: Time) -> None:
    now = await store.now_ms()
    waits = [
        signal_wait(pos="1", wake_at=now + HOUR),
        Wait(pos="2", kind="timer", wake_at=now + MINUTE),
        Wait(pos="3", kind="retry", wake_at=now + 2 * HOUR, data=b"2"),
    ]
    run = await waiting(store, *waits)
    assert run.wake_at == now + MINUTE
    await time.advance(MINUTE)
    await store.promote()
    await claim(store)
    assert (await store.journal(run.id)).waits == waits


async def test_a_child_that_ends_wakes_its_parent(store: Store) -> None:
    await join(store)
    parent = await add(store)
    [claimed] = await claim(store)
    child = await add(store, parent=parent, parent_pos="1")
    assert await store.suspend(fence(claimed), [Wait(pos="1", kind="child", name=child)], "child")
    [started] = await claim(store)
    await store.finish(fence(started), Finish(state="failed", error=b"e"))
    [again] = await claim(store)
    assert again.id == parent
    children = (await store.journal(parent)).children
    assert (children[child].state, children[child].error) == ("failed", b"e")
    assert list((await store.arrivals(parent)).children) == [child]


async def test_a_run_does_not_wait_for_a_child_that_has_ended(store: Store) -> None:
    await join(store)
    parent = await add(store)
    [claimed] = await claim(store)
    child = await add(store, parent=parent)
    [started] = await claim(store)
    await store.finish(fence(started), COMPLETED)
    assert not await store.suspend(fence(claimed), [Wait(pos="1", kind="child", name=child)], "child")


async def test_children_and_parents_that_cross_lose_nothing(store: Store) -> None:
    await join(store)
    parents = [await add(store) for _ in range(10)]
    fences = {run.id: fence(run) for run in await claim(store)}
    children = [await add(store, parent=parent) for parent in parents]
    fences |= {run.id: fence(run) for run in await claim(store)}
    writes = []
    for parent, child in zip(parents, children, strict=True):
        writes.append(store.suspend(fences[parent], [Wait(pos="1", kind="child", name=child)], "child"))
        writes.append(store.finish(fences[child], COMPLETED))
    results = await asyncio.gather(*writes)
    for parent, suspended in zip(parents, results[::2], strict=True):
        assert (await store.run(parent)).state == ("available" if suspended else "running")


async def test_children_of_a_run_that_did_not_complete_are_cancelled(store: Store) -> None:
    await join(store)
    parent = await add(store)
    [claimed] = await claim(store)
    idle = await add(store, parent=parent, delay_ms=HOUR)
    busy = await add(store, parent=parent)
    await claim(store)
    await store.finish(fence(claimed), Finish(state="failed"))
    assert (await store.run(idle)).state == "cancelled"
    assert [run.id for run in await store.requests("worker")] == [busy]


async def test_a_pending_request_keeps_a_run_awake(store: Store) -> None:
    run = await running(store)
    asked = await store.cancel(run.id, "enough")
    assert (asked.state, asked.request) == ("running", "cancel")
    assert not await store.suspend(fence(run), [signal_wait()], "signal")
    assert [each.id for each in await store.requests("worker")] == [run.id]


async def test_a_deadline_ends_a_run_that_nobody_runs(store: Store, time: Time) -> None:
    await join(store)
    waits = await waiting(store, timeout_ms=MINUTE)
    lies = await add(store, timeout_ms=MINUTE)
    runs = await add(store, timeout_ms=MINUTE, priority=90)
    await claim(store, limit=1)
    assert await states(store, [waits.id, lies, runs]) == ["waiting", "available", "running"]
    await time.advance(MINUTE)
    await store.promote()
    assert await states(store, [waits.id, lies, runs]) == ["failed", "failed", "running"]
    assert ((await store.run(lies)).reason, await store.waits(waits.id)) == ("timeout", [])


async def test_an_expired_run_is_recorded_as_missed(store: Store, time: Time) -> None:
    await join(store)
    late = await add(store, expire_ms=MINUTE)
    started = (await running(store, expire_ms=MINUTE, priority=90)).id
    await time.advance(MINUTE)
    assert await claim(store) == []
    await store.promote()
    assert await states(store, [late, started]) == ["discarded", "running"]
    assert (await store.run(late)).reason == "expired"
    assert "run.missed" in await event_names(store, late)


async def test_nothing_is_due_in_an_empty_store(store: Store) -> None:
    assert await store.promote() is None


# --- effects -----------------------------------------------------------------------------------------------------


async def test_an_intent_is_open_until_its_receipt(store: Store) -> None:
    run = await running(store)
    intent = effect(run.id, request=b"args", intent_at=5, deadline_at=9)
    await store.intend(fence(run), intent)
    assert (await store.journal(run.id)).effects == [intent]
    assert await store.effects() == [intent]
    await store.append(fence(run), [step(1, kind="effect", result=b"receipt")])
    assert (await store.journal(run.id)).effects == []
    [done] = await store.effects(run=run.id, states=("done",))
    assert (done.state, done.result) == ("done", b"receipt")


async def test_a_failed_effect_is_closed_as_failed(store: Store) -> None:
    run = await running(store)
    await store.intend(fence(run), effect(run.id))
    await store.append(fence(run), [step(1, kind="effect", error=b"e")])
    assert [each.state for each in await store.effects(run=run.id, states=("failed", "open"))] == ["failed"]


async def test_an_intent_written_twice_is_one(store: Store) -> None:
    run = await running(store)
    await asyncio.gather(*(store.intend(fence(run), effect(run.id, intent_at=i)) for i in (1, 2)))
    assert len(await store.effects(run=run.id)) == 1


async def test_a_step_of_another_kind_leaves_effects_open(store: Store) -> None:
    run = await running(store)
    await store.intend(fence(run), effect(run.id, pos="2"))
    await store.append(fence(run), [step(1), step(2, pos="3", kind="effect")])
    assert [each.pos for each in await store.effects(run=run.id)] == ["2"]


async def in_doubt(store: Store) -> str:
    run = await running(store)
    await store.intend(fence(run), effect(run.id))
    await store.doubt(fence(run), "1")
    await store.finish(fence(run), Finish(state="parked", reason="effect in doubt"))
    return run.id


async def test_an_effect_in_doubt_waits_for_a_person(store: Store) -> None:
    id_ = await in_doubt(store)
    assert [each.state for each in await store.effects(states=("in_doubt",))] == ["in_doubt"]
    assert "effect.in_doubt" in await event_names(store, id_)
    for refused in (store.resume(id_), store.retry(id_)):
        with pytest.raises(Conflict, match="nobody knows"):
            await refused


async def test_the_word_that_it_happened_becomes_the_steps_result(store: Store) -> None:
    id_ = await in_doubt(store)
    run = await store.resolve(id_, "1", b"receipt")
    assert run.state == "available"
    journal = await store.journal(id_)
    assert [(each.pos, each.kind, each.result) for each in journal.steps] == [("1", "effect", b"receipt")]
    assert journal.effects == []
    with pytest.raises(Conflict):
        await store.resolve(id_, "1", b"again")


async def test_the_word_that_it_did_not_happen_lets_it_be_done_again(store: Store) -> None:
    id_ = await in_doubt(store)
    assert (await store.resolve(id_, "1", None)).state == "available"
    journal = await store.journal(id_)
    assert (journal.steps, journal.effects) == ([], [])
