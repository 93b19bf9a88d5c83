"""Every store: making runs, claiming them, reading them."""

from __future__ import annotations

import asyncio

import pytest
from conformance import HOUR, MINUTE, Time, add, claim, ended, event_names, fence, join, new_run, running, states

from relit.errors import Fenced, NotFound
from relit.lib.ids import new_id
from relit.store.base import Store
from relit.store.values import Finish


async def test_a_run_is_as_it_was_made(store: Store) -> None:
    before = await store.now_ms()
    made = new_run(input=b"\x00\xff", priority=70, max_attempts=3, key="k", timeout_ms=MINUTE, parent_pos="4")
    [result] = await store.enqueue([made])
    assert (result.id, result.created) == (made.id, True)
    run = await store.run(made.id)
    assert (run.target, run.kind, run.state, run.input) == ("a/w", "call", "available", b"\x00\xff")
    assert (run.priority, run.max_attempts, run.key, run.parent_pos) == (70, 3, "k", "4")
    assert before <= run.created_at <= await store.now_ms()
    assert run.deadline_at == run.created_at + MINUTE
    assert (run.epoch, run.worker, run.started_at, run.final) == (0, None, None, False)


async def test_enqueue_answers_in_order(store: Store) -> None:
    runs = [new_run() for _ in range(20)]
    assert [each.id for each in await store.enqueue(runs)] == [run.id for run in runs]


async def test_a_known_id_answers_the_earlier_run(store: Store) -> None:
    first = new_run(input=b"first")
    await store.enqueue([first])
    [again] = await store.enqueue([new_run(id=first.id, input=b"second")])
    assert again == type(again)(first.id, False)
    assert (await store.run(first.id)).input == b"first"


async def test_an_id_sent_many_times_at_once_makes_one_run(store: Store) -> None:
    id_ = new_id()
    results = await asyncio.gather(*(store.enqueue([new_run(id=id_)]) for _ in range(10)))
    assert len(await store.runs()) == 1
    assert sum(result[0].created for result in results) == 1


async def test_a_run_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no run 'nothing'"):
        await store.run("nothing")


async def test_a_claim_starts_a_run_under_a_new_epoch(store: Store) -> None:
    run = await running(store)
    assert (run.state, run.worker, run.epoch, run.attempt) == ("running", "worker", 1, 1)
    assert run.started_at is not None
    assert await store.run(run.id) == run
    assert await event_names(store, run.id) == ["run.enqueued", "run.started"]


async def test_a_run_is_claimed_once(store: Store) -> None:
    await join(store)
    ids = [await add(store) for _ in range(30)]
    found = await asyncio.gather(*(claim(store, limit=7) for _ in range(8)))
    assert sorted(run.id for runs in found for run in runs) == sorted(ids)


async def test_claims_keep_to_their_targets_and_limit(store: Store) -> None:
    await join(store)
    await add(store, workflow="other")
    wanted = [await add(store) for _ in range(3)]
    first = await claim(store, limit=2)
    assert [run.id for run in first] == wanted[:2]
    assert [run.id for run in await claim(store)] == wanted[2:]
    assert await claim(store) == []


async def test_higher_priority_goes_first(store: Store) -> None:
    await join(store)
    low, high, middle = [await add(store, priority=priority) for priority in (10, 90, 50)]
    assert [(await claim(store, limit=1))[0].id for _ in range(3)] == [high, middle, low]


async def test_a_run_that_has_waited_long_overtakes_one_of_higher_priority(store: Store, time: Time) -> None:
    await join(store)
    old = await add(store, priority=0)
    await time.advance(11 * MINUTE)
    young = await add(store, priority=100)
    assert [run.id for run in await claim(store)] == [old, young]


async def test_a_worker_without_a_lease_claims_nothing(store: Store, time: Time) -> None:
    await add(store)
    with pytest.raises(Fenced):
        await claim(store, "nobody")
    await join(store, lease_ms=MINUTE)
    await time.advance(MINUTE + 1)
    with pytest.raises(Fenced):
        await claim(store)


async def test_a_delayed_run_starts_when_it_is_due(store: Store, time: Time) -> None:
    await join(store)
    id_ = await add(store, delay_ms=HOUR // 2)
    assert await states(store, [id_]) == ["scheduled"]
    assert await claim(store) == []
    due = await store.promote()
    assert due is not None
    assert 0 < due <= HOUR // 2
    await time.advance(HOUR // 2)
    await store.promote()
    assert [run.id for run in await claim(store)] == [id_]


async def test_a_moment_wins_over_a_delay(store: Store) -> None:
    at = await store.now_ms() + HOUR
    id_ = await add(store, delay_ms=1, at=at)
    assert (await store.run(id_)).wake_at == at
    past = await add(store, at=1)
    assert await states(store, [past]) == ["available"]


async def test_runs_are_listed_newest_first_in_pages(store: Store) -> None:
    ids = [await add(store) for _ in range(7)]
    first = await store.runs(limit=3)
    rest = await store.runs(before=first[-1].id, limit=10)
    assert [run.id for run in first + rest] == ids[::-1]


async def test_runs_are_found_by_what_they_are(store: Store) -> None:
    parent = await add(store, agent="b")
    child = await add(store, parent=parent, workflow="v")
    scheduled = await add(store, schedule="nightly", delay_ms=HOUR)
    assert [run.id for run in await store.runs(agent="b")] == [parent]
    assert [run.id for run in await store.runs(agent="a", workflow="v")] == [child]
    assert [run.id for run in await store.runs(parent=parent)] == [child]
    assert [run.id for run in await store.runs(schedule="nightly")] == [scheduled]
    assert [run.id for run in await store.runs(states=["scheduled", "failed"])] == [scheduled]
    assert await store.runs(agent="b", states=["failed"]) == []
    assert await store.counts() == {("b/w", "available"): 1, ("a/v", "available"): 1, ("a/w", "scheduled"): 1}
    assert await store.to_do() == {"a/v": (1, 0), "b/w": (1, 0)}


async def test_what_lost_its_worker_is_to_be_done_too(store: Store) -> None:
    await running(store)
    assert await store.to_do() == {"a/w": (0, 1)}
    await store.reap("worker", proven=True, poison_after=9)
    assert await store.to_do() == {"a/w": (1, 0)}


async def test_a_run_is_found_by_either_end_of_its_id(store: Store) -> None:
    id_ = await add(store)
    assert await store.find_runs(id_[:12]) == [id_]
    assert await store.find_runs(id_[-8:]) == [id_]
    assert await store.find_runs("zzzzzzzz") == []


async def test_an_ended_run_is_claimed_no_more(store: Store) -> None:
    run = await ended(store)
    assert (run.state, run.final, run.worker) == ("completed", True, None)
    assert run.finished_at is not None
    assert await claim(store) == []


async def test_a_retry_waits_for_its_moment_and_counts(store: Store, time: Time) -> None:
    run = await running(store, max_attempts=3)
    at = await store.now_ms() + MINUTE
    await store.finish(fence(run), Finish(state="scheduled", reason="retry", wake_at=at, error=b"e"))
    later = await store.run(run.id)
    assert (later.state, later.wake_at, later.attempt, later.worker) == ("scheduled", at, 2, None)
    await time.advance(MINUTE)
    await store.promote()
    [again] = await claim(store)
    assert (again.id, again.epoch, again.attempt) == (run.id, 2, 2)


async def test_a_dedup_key_answers_the_first_run_inside_its_window(store: Store, time: Time) -> None:
    first = await add(store, dedup="order-1", dedup_ms=HOUR)
    [again] = await store.enqueue([new_run(dedup="order-1", dedup_ms=HOUR)])
    assert (again.id, again.created) == (first, False)
    other = await add(store, dedup="order-1", workflow="v")
    assert other != first, "a key belongs to its target"
    await time.advance(HOUR + 1)
    late = await add(store, dedup="order-1", dedup_ms=HOUR)
    assert late != first


async def test_a_dedup_key_sent_many_times_at_once_makes_one_run(store: Store) -> None:
    results = await asyncio.gather(*(store.enqueue([new_run(dedup="d")]) for _ in range(10)))
    assert len({result[0].id for result in results}) == 1
    assert len(await store.runs()) == 1
    assert sum(result[0].created for result in results) == 1


async def test_a_dedup_key_twice_in_one_call_makes_one_run(store: Store) -> None:
    one, two = await store.enqueue([new_run(dedup="d"), new_run(dedup="d")])
    assert (two.id, two.created) == (one.id, False)
    assert len(await store.runs()) == 1


async def test_a_subscriber_hears_of_work(store: Store) -> None:
    ready = store.subscribe("ready")
    await add(store)
    assert await ready.wait(5)
    ready.close()
