"""Every store: leases, takeover, the poison guard, requests to workers."""

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
    event_names,
    fence,
    join,
    message,
    running,
    states,
    step,
)

from relit.errors import Fenced
from relit.store.base import Store
from relit.store.values import Reaped, WorkerInfo


async def test_a_worker_is_listed_while_it_lives(store: Store) -> None:
    await join(store, lease_ms=MINUTE)
    [worker] = await store.workers()
    assert (worker.id, worker.host, worker.pid, worker.start, worker.boot) == ("worker", "h", 7, 8, "b")
    assert (worker.namespace, worker.targets, worker.state) == ("n", ["a/w", "a/message"], "live")
    assert 0 < worker.lease_left_ms <= MINUTE
    await store.leave("worker")
    assert await store.workers() == []
    assert [each.state for each in await store.workers(live=False)] == ["left"]
    assert [name for name in await event_names(store) if name.startswith("worker")] == ["worker.joined", "worker.left"]


async def test_a_renewed_lease_lasts(store: Store, time: Time) -> None:
    await join(store, lease_ms=2 * MINUTE)
    for _ in range(3):
        await time.advance(MINUTE)
        assert await store.renew("worker", 2 * MINUTE)
    assert await store.expired_workers() == []


async def test_a_worker_that_leaves_gives_its_runs_back(store: Store) -> None:
    run = await running(store)
    await store.leave("worker")
    assert (await store.run(run.id)).state == "available"
    with pytest.raises(Fenced):
        await store.append(fence(run), [step(1)])
    assert not await store.renew("worker", MINUTE)


async def test_a_living_worker_is_not_reaped(store: Store) -> None:
    run = await running(store)
    assert await store.reap("worker", proven=False, poison_after=5) is None
    assert await store.reap("nobody", proven=True, poison_after=5) is None
    assert await states(store, [run.id]) == ["running"]


async def test_an_expired_lease_is_taken_over_by_anybody_at_any_time(store: Store, time: Time) -> None:
    await join(store, "dead", lease_ms=MINUTE)
    id_ = await add(store)
    [run] = await claim(store, "dead")
    await store.append(fence(run), [step(1)])
    await time.advance(MINUTE)
    assert await store.expired_workers() == ["dead"]
    assert await store.reap("dead", proven=False, poison_after=5) == Reaped("dead", 1, [])
    assert await store.expired_workers() == []
    await join(store, "heir")
    [again] = await claim(store, "heir")
    assert (again.id, again.epoch > run.epoch, again.taken_over, again.crashes) == (id_, True, "expiry", 1)
    assert len((await store.journal(id_)).steps) == 1


async def test_a_proven_death_needs_no_expiry(store: Store) -> None:
    run = await running(store)
    assert await store.reap("worker", proven=True, poison_after=5) == Reaped("worker", 1, [])
    again = await store.run(run.id)
    assert (again.state, again.taken_over) == ("available", "death")
    assert "run.recovered" in await event_names(store, run.id)
    assert "worker.died" in await event_names(store)


async def test_a_worker_that_wakes_late_changes_nothing(store: Store) -> None:
    run = await running(store)
    await store.reap("worker", proven=False, poison_after=5)
    await store.reap("worker", proven=True, poison_after=5)
    for write in (store.append(fence(run), [step(1)]), store.finish(fence(run), COMPLETED), claim(store)):
        with pytest.raises(Fenced):
            await write
    await store.release([fence(run)])
    assert not await store.renew("worker", MINUTE)
    assert (await store.journal(run.id)).steps == []


async def test_two_who_reap_at_once_take_the_runs_once(store: Store) -> None:
    await running(store)
    results = await asyncio.gather(*(store.reap("worker", proven=True, poison_after=5) for _ in range(4)))
    assert sorted((result is not None) for result in results) == [False, False, False, True]


async def crash(store: Store, number: int, *, steps: int = 0) -> list[str]:
    """A worker claims what there is, does some steps and dies."""
    name = await join(store, f"victim-{number}")
    for run in await claim(store, name):
        done = len(await store.steps(run.id))
        for seq in range(done + 1, done + steps + 1):
            await store.append(fence(run), [step(seq)])
    reaped = await store.reap(name, proven=True, poison_after=3)
    assert reaped is not None
    return reaped.poisoned


async def test_a_run_that_kills_its_workers_at_one_step_is_parked(store: Store) -> None:
    id_ = await add(store)
    assert await crash(store, 1, steps=1) == []
    assert await crash(store, 2) == []
    assert await crash(store, 3) == [id_]
    run = await store.run(id_)
    assert (run.state, run.reason, run.crashes) == ("parked", "poison", 3)
    assert (await store.resume(id_)).crashes == 0


async def test_progress_between_deaths_is_no_poison(store: Store) -> None:
    id_ = await add(store)
    for number in range(6):
        assert await crash(store, number, steps=1) == []
    assert (await store.run(id_)).crashes == 1


async def test_deaths_of_a_steady_worker_count_against_no_run(store: Store) -> None:
    ids = [await add(store) for _ in range(3)]
    for number in range(9):
        info = WorkerInfo(
            id=f"steady-{number}", host="h", pid=7, start=8, boot="b", namespace="n", targets=["a/w"], steady=True
        )
        await store.join(info, HOUR)
        assert len(await claim(store, info.id)) == 3, "they are no suspects: all are taken at once"
        assert await store.reap(info.id, proven=True, poison_after=3) == Reaped(info.id, 3, [])
    assert [(await store.run(id_)).crashes for id_ in ids] == [0, 0, 0]
    assert await crash(store, 1) == await crash(store, 2) == []


async def test_suspects_are_taken_one_at_a_time(store: Store) -> None:
    for _ in range(4):
        await add(store)
    await crash(store, 1)
    clean = await add(store)
    await join(store)
    first = await claim(store)
    assert len(first) == 2
    assert clean in [run.id for run in first]
    assert len(await claim(store, suspects=0)) == 0
    assert len(await claim(store, suspects=2)) == 2


async def test_a_poisoned_message_gives_its_place_to_the_next(store: Store) -> None:
    first = message()
    await store.enqueue([first])
    for number in range(3):
        await crash(store, number)
    await store.enqueue([message(id="next")])
    assert await states(store, [first.id]) == ["parked"]
    await join(store)
    assert [run.id for run in await claim(store)] == ["next"]


async def test_a_run_asked_to_end_ends_with_its_worker(store: Store) -> None:
    run = await running(store)
    await store.cancel(run.id, "enough")
    await store.reap("worker", proven=True, poison_after=5)
    assert (await store.run(run.id)).state == "cancelled"
    other = await running(store)
    await store.pause(other.id)
    await store.reap("worker", proven=True, poison_after=5)
    assert (await store.run(other.id)).state == "parked"


async def test_a_released_run_keeps_its_request_for_the_next_worker(store: Store) -> None:
    run = await running(store)
    await store.cancel(run.id, "enough")
    await store.release([fence(run)])
    await join(store, "next")
    await claim(store, "next")
    assert [(each.id, each.request) for each in await store.requests("next")] == [(run.id, "cancel")]


async def test_workers_hear_of_requests(store: Store) -> None:
    run = await running(store)
    heard = store.subscribe("requests")
    await store.pause(run.id)
    assert await heard.wait(5)
    heard.close()
    [asked] = await store.requests("worker")
    assert (asked.id, asked.request) == (run.id, "pause")
