"""Every store: mailboxes. Order, places, rates, depth, pause."""

from __future__ import annotations

import asyncio

import pytest
from conformance import (
    COMPLETED,
    MINUTE,
    Time,
    add,
    claim,
    fence,
    join,
    message,
    new_run,
    running,
    signal_wait,
    states,
)

from relit.errors import MailboxFull, NotFound
from relit.store.base import Store
from relit.store.values import Finish, Mailbox, MailboxStats, Signal


async def send(store: Store, **options: object) -> str:
    return (await store.enqueue([message(**options)]))[0].id


async def stats(store: Store, name: str = "a") -> MailboxStats:
    return next(each for each in await store.mailboxes() if each.mailbox.name == name)


async def test_a_mailbox_that_nobody_configured_has_the_defaults(store: Store) -> None:
    await send(store)
    found = await stats(store)
    assert found.mailbox == Mailbox(name="a")
    assert (found.queued, found.active, found.parked, found.dead) == (1, 1, 0, 0)
    assert found.oldest_at is not None


async def test_messages_are_worked_on_one_after_another_in_order(store: Store) -> None:
    await join(store)
    ids = [await send(store) for _ in range(4)]
    worked = []
    for _ in ids:
        [run] = await claim(store)
        assert await claim(store) == [], "one place"
        await store.finish(fence(run), COMPLETED)
        worked.append(run.id)
    assert worked == ids


async def test_messages_sent_in_one_call_keep_their_order(store: Store) -> None:
    await join(store)
    sent = [message() for _ in range(5)]
    await store.enqueue(sent)
    worked = []
    for _ in sent:
        [run] = await claim(store)
        await store.finish(fence(run), COMPLETED)
        worked.append(run.id)
    assert worked == [run.id for run in sent]


async def test_called_workflows_are_not_limited(store: Store) -> None:
    await join(store)
    for _ in range(5):
        await add(store)
    assert len(await claim(store)) == 5


async def test_a_mailbox_has_as_many_places_as_configured(store: Store) -> None:
    await join(store)
    await store.configure_mailbox(Mailbox(name="a", concurrency=3))
    for _ in range(5):
        await send(store)
    first = await claim(store)
    assert len(first) == 3
    await store.finish(fence(first[0]), COMPLETED)
    assert len(await claim(store)) == 1


async def test_a_mailbox_without_a_limit_lets_all_in(store: Store) -> None:
    await join(store)
    await store.configure_mailbox(Mailbox(name="a", concurrency=None))
    for _ in range(12):
        await send(store)
    assert len(await claim(store)) == 12


async def test_more_places_are_given_out_at_once(store: Store) -> None:
    await join(store)
    for _ in range(3):
        await send(store)
    await store.configure_mailbox(Mailbox(name="a", concurrency=2))
    assert len(await claim(store)) == 2


async def test_places_never_exceed_the_limit_when_all_happens_at_once(store: Store) -> None:
    await join(store)
    await store.configure_mailbox(Mailbox(name="a", concurrency=2))
    await asyncio.gather(*(send(store) for _ in range(12)))
    done = 0
    while runs := await claim(store):
        assert len(runs) <= 2
        more = [store.enqueue([message()])] if done < 6 else []
        await asyncio.gather(*(store.finish(fence(run), COMPLETED) for run in runs), *more)
        assert (await stats(store)).active <= 2
        done += len(runs)
    assert done >= 12


async def test_each_key_has_places_of_its_own(store: Store) -> None:
    await join(store)
    await store.configure_mailbox(Mailbox(name="a", concurrency=10, key_concurrency=1))
    one, _, two, free = [await send(store, key=key) for key in ("x", "x", "y", None)]
    first = await claim(store)
    assert {run.id for run in first} == {one, two, free}
    await store.finish(fence(next(run for run in first if run.id == two)), COMPLETED)
    assert await claim(store) == [], "the other key's place helps nobody"
    await store.finish(fence(next(run for run in first if run.id == one)), COMPLETED)
    assert [run.key for run in await claim(store)] == ["x"]


async def test_a_waiting_run_keeps_its_place(store: Store) -> None:
    await join(store)
    first, _ = await send(store), await send(store)
    [run] = await claim(store)
    assert await store.suspend(fence(run), [signal_wait()], "signal")
    assert await claim(store) == []
    await store.signal(Signal(id="s", run=first, name="go", payload=b"", at=0))
    assert [each.id for each in await claim(store)] == [first]


async def test_a_parked_run_gives_up_its_place(store: Store) -> None:
    await join(store)
    first, second = await send(store), await send(store)
    [run] = await claim(store)
    await store.finish(fence(run), Finish(state="parked", reason="effect in doubt"))
    assert (await stats(store)).parked == 1
    [next_run] = await claim(store)
    assert next_run.id == second
    assert (await store.resume(first)).state == "available"
    assert await claim(store) == [], "it queues up again"
    await store.finish(fence(next_run), COMPLETED)
    assert [each.id for each in await claim(store)] == [first]


async def test_a_retry_gives_up_its_place_until_it_is_due(store: Store, time: Time) -> None:
    await join(store)
    first, second = await send(store, max_attempts=2), await send(store)
    [run] = await claim(store)
    await store.finish(fence(run), Finish(state="scheduled", wake_at=await store.now_ms() + MINUTE))
    [other] = await claim(store)
    assert other.id == second
    await store.finish(fence(other), COMPLETED)
    await time.advance(MINUTE)
    await store.promote()
    assert [each.id for each in await claim(store)] == [first]


async def test_a_full_mailbox_refuses_whole_calls_and_says_when_to_come_back(store: Store) -> None:
    await store.configure_mailbox(Mailbox(name="a", depth=2))
    await send(store)
    with pytest.raises(MailboxFull, match="holds 1 of 2") as refused:
        await store.enqueue([message(), message()])
    assert refused.value.retry_after > 0
    assert (await stats(store)).queued == 1
    await send(store)
    with pytest.raises(MailboxFull):
        await send(store)
    await store.enqueue([new_run(mailbox="b"), new_run()])


async def test_a_full_mailbox_still_answers_for_messages_it_knows(store: Store) -> None:
    await store.configure_mailbox(Mailbox(name="a", depth=1))
    id_ = await send(store, dedup="d")
    [again] = await store.enqueue([message(dedup="d")])
    assert (again.id, again.created) == (id_, False)
    [same] = await store.enqueue([message(id=id_)])
    assert (same.id, same.created) == (id_, False)


async def test_running_messages_do_not_count_as_queued(store: Store) -> None:
    await join(store)
    await store.configure_mailbox(Mailbox(name="a", depth=1))
    await send(store)
    await claim(store)
    await send(store)
    assert (await stats(store)).queued == 1


async def test_no_more_are_let_in_at_once_than_fit_when_many_come_together(store: Store) -> None:
    await store.configure_mailbox(Mailbox(name="a", depth=5))
    results = await asyncio.gather(*(store.enqueue([message()]) for _ in range(12)), return_exceptions=True)
    assert sum(isinstance(result, MailboxFull) for result in results) == 7
    assert (await stats(store)).queued == 5


async def test_a_rate_lets_a_burst_through_and_then_one_at_a_time(store: Store, time: Time) -> None:
    await join(store)
    await store.configure_mailbox(Mailbox(name="a", concurrency=None, rate=1 / 60, burst=2))
    for _ in range(4):
        await send(store)
    assert len(await claim(store)) == 2
    due = await store.promote()
    assert due is not None
    assert 0 < due <= MINUTE
    await time.advance(MINUTE)
    await store.promote()
    assert len(await claim(store)) == 1
    await time.advance(MINUTE)
    await store.promote()
    assert len(await claim(store)) == 1


async def test_a_paused_mailbox_holds_its_messages(store: Store) -> None:
    await join(store)
    waits = await send(store)
    await store.pause_mailbox("a", True)
    later = await send(store)
    assert await claim(store) == []
    assert (await stats(store)).mailbox.paused
    await store.pause_mailbox("a", False)
    assert [run.id for run in await claim(store)] == [waits]
    assert await states(store, [later]) == ["available"]


async def test_pausing_a_mailbox_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no mailbox"):
        await store.pause_mailbox("nothing", True)


async def test_higher_priority_overtakes_in_a_mailbox(store: Store) -> None:
    await join(store)
    await send(store)
    await claim(store)
    _, urgent = await send(store, priority=50), await send(store, priority=90)
    [run] = await store.runs(states=["running"])
    await store.finish(fence(run), COMPLETED)
    assert [each.id for each in await claim(store)] == [urgent]


async def test_an_expired_message_gives_its_place_to_the_next(store: Store, time: Time) -> None:
    await join(store)
    stale, fresh = await send(store, expire_ms=MINUTE), await send(store)
    await time.advance(MINUTE)
    await store.promote()
    assert (await stats(store)).dead == 1
    assert await states(store, [stale]) == ["discarded"]
    assert [run.id for run in await claim(store)] == [fresh]


async def test_a_cancelled_message_gives_its_place_to_the_next(store: Store) -> None:
    await join(store)
    first, second = await send(store), await send(store)
    await store.cancel(first, "not needed")
    assert [run.id for run in await claim(store)] == [second]


async def test_a_dead_letter_goes_back_into_its_mailbox(store: Store) -> None:
    run = await running(store, workflow="message", mailbox="a", max_attempts=2)
    await store.finish(fence(run), Finish(state="discarded", reason="attempts", error=b"e"))
    assert (await stats(store)).dead == 1
    again = await store.requeue(run.id)
    assert (again.state, again.error, again.finished_at) == ("available", None, None)
    [claimed] = await claim(store)
    assert (claimed.id, claimed.attempt, claimed.epoch) == (run.id, 1, 2)
    assert (await stats(store)).dead == 0
