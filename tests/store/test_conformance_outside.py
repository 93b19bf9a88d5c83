"""Every store: what people do to runs. Cancel, pause, resume, retry, requeue, fork."""

from __future__ import annotations

import pytest
from conformance import (
    COMPLETED,
    HOUR,
    add,
    claim,
    ended,
    event_names,
    fence,
    join,
    message,
    running,
    signal_wait,
    states,
    step,
    waiting,
)

from relit.errors import Conflict, NotFound
from relit.lib.ids import new_id
from relit.store.base import Store
from relit.store.values import Finish, Signal


async def test_a_run_that_nobody_runs_is_cancelled_at_once(store: Store) -> None:
    for id_ in ((await waiting(store)).id, await add(store), await add(store, delay_ms=HOUR)):
        run = await store.cancel(id_, "not needed")
        assert (run.state, run.reason, run.final) == ("cancelled", "not needed", True)
        assert run.finished_at is not None
        assert await store.waits(id_) == []
        assert "run.cancelled" in await event_names(store, id_)


async def test_an_ended_run_cannot_be_cancelled_paused_or_resumed(store: Store) -> None:
    run = await ended(store)
    for refused in (store.cancel(run.id, "x"), store.pause(run.id), store.resume(run.id), store.retry(run.id)):
        with pytest.raises(Conflict, match="completed"):
            await refused


async def test_what_is_done_to_nobody_is_not_found(store: Store) -> None:
    calls = [
        store.cancel("x", "y"),
        store.pause("x"),
        store.resume("x"),
        store.retry("x"),
        store.requeue("x"),
        store.fork("x", None, "y"),
        store.resolve("x", "1", None),
    ]
    for refused in calls:
        with pytest.raises(NotFound):
            await refused


async def test_a_paused_run_waits_for_a_person(store: Store) -> None:
    id_ = await add(store)
    assert (await store.pause(id_)).state == "parked"
    with pytest.raises(Conflict):
        await store.pause(id_)
    assert (await store.resume(id_)).state == "available"
    with pytest.raises(Conflict):
        await store.resume(id_)


async def test_a_waiting_run_can_be_paused_and_finds_its_signal_later(store: Store) -> None:
    run = await waiting(store)
    await store.pause(run.id)
    await store.signal(Signal(id="s", run=run.id, name="go", payload=b"", at=0))
    assert await states(store, [run.id]) == ["parked"]
    await store.resume(run.id)
    [again] = await claim(store)
    journal = await store.journal(again.id)
    assert [wait.name for wait in journal.waits] == ["go"]
    assert [each.id for each in journal.signals] == ["s"]


async def test_a_running_run_is_asked_to_pause(store: Store) -> None:
    run = await running(store)
    assert (await store.pause(run.id)).request == "pause"
    await store.finish(fence(run), Finish(state="parked", reason="paused"))
    parked = await store.run(run.id)
    assert (parked.state, parked.request) == ("parked", None)


async def test_a_retried_run_goes_on_from_the_step_that_failed(store: Store) -> None:
    run = await running(store)
    await store.append(fence(run), [step(1), step(2, error=b"boom")])
    await store.finish(fence(run), Finish(state="failed", error=b"boom", failed_pos="2"))
    again = await store.retry(run.id)
    assert (again.state, again.error, again.failed_pos, again.finished_at) == ("available", None, None, None)
    assert [each.pos for each in (await store.journal(run.id)).steps] == ["1", "~2"]
    [claimed] = await claim(store)
    assert claimed.epoch == run.epoch + 1
    await store.append(fence(claimed), [step(3, pos="2")])
    await store.finish(fence(claimed), COMPLETED)
    assert "run.retried" in await event_names(store, run.id)


async def test_cancelled_runs_can_be_retried(store: Store) -> None:
    id_ = await add(store)
    await store.cancel(id_, "oops")
    assert (await store.retry(id_)).state == "available"


async def test_only_dead_letters_are_requeued(store: Store) -> None:
    run = await ended(store, "failed")
    with pytest.raises(Conflict, match="not a dead letter"):
        await store.requeue(run.id)
    dead = await ended(store, "discarded")
    assert (await store.requeue(dead.id)).state == "available"


async def test_a_fork_has_the_first_steps_and_goes_its_own_way(store: Store) -> None:
    run = await running(store, priority=70)
    await store.append(fence(run), [step(1), step(2), step(3)])
    await store.finish(fence(run), COMPLETED)
    new = await store.fork(run.id, 2, new_id())
    assert (new.state, new.forked_from, new.input, new.target) == ("available", run.id, run.input, run.target)
    assert [each.seq for each in (await store.journal(new.id)).steps] == [1, 2]
    [claimed] = await claim(store)
    assert claimed.id == new.id
    await store.append(fence(claimed), [step(3, result=b"other")])
    assert [each.result for each in await store.steps(run.id)] == [b"r"] * 3


async def test_a_fork_of_all_steps_with_another_input(store: Store) -> None:
    run = await running(store)
    await store.append(fence(run), [step(1), step(2)])
    new = await store.fork(run.id, None, new_id(), b"other")
    assert new.input == b"other"
    assert len(await store.steps(new.id)) == 2
    assert await store.steps((await store.fork(run.id, 0, new_id())).id) == []


async def test_a_fork_of_a_message_queues_up(store: Store) -> None:
    run = await running(store, workflow="message", mailbox="a")
    new = await store.fork(run.id, None, new_id())
    assert await claim(store) == []
    await store.finish(fence(run), COMPLETED)
    assert [each.id for each in await claim(store)] == [new.id]


async def test_a_resumed_message_queues_up(store: Store) -> None:
    await store.enqueue([message(id="first"), message(id="second")])
    await store.pause("first")
    await store.resume("first")
    await join(store)
    [run] = await claim(store)
    assert run.id == "second"
    await store.finish(fence(run), COMPLETED)
    assert [each.id for each in await claim(store)] == ["first"]


async def test_a_signal_to_a_continued_run_reaches_the_newest(store: Store) -> None:
    run = await running(store)
    following = message(mailbox=None, workflow="w")
    await store.finish(fence(run), Finish(state="completed", next_run=following))
    assert await store.signal(Signal(id="s", run=run.id, name="go", payload=b"", at=0))
    assert [each.id for each in (await store.journal(following.id)).signals] == ["s"]
    [claimed] = await claim(store)
    assert not await store.suspend(fence(claimed), [signal_wait()], "signal")
