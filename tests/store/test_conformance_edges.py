"""Every store: what happens when two things happen to a run at once, or long after each other."""

from __future__ import annotations

import pytest
from conformance import (
    COMPLETED,
    DAY,
    HOUR,
    MINUTE,
    Time,
    add,
    claim,
    effect,
    ended,
    fence,
    join,
    message,
    new_run,
    running,
    states,
    step,
    waiting,
)

from relit.errors import Conflict, NotFound
from relit.lib.ids import new_id
from relit.store.base import Store
from relit.store.values import Finish, Mailbox, Signal, Wait


async def test_a_cancel_is_not_lost_when_the_run_is_just_being_tried_again(store: Store) -> None:
    run = await running(store)
    await store.cancel(run.id, "enough")
    await store.finish(fence(run), Finish(state="scheduled", reason="retry", wake_at=await store.now_ms()))
    assert await states(store, [run.id]) == ["cancelled"]


async def test_a_cancel_is_not_lost_when_the_run_is_just_being_set_aside(store: Store) -> None:
    run = await running(store)
    await store.cancel(run.id, "enough")
    await store.finish(fence(run), Finish(state="parked", reason="journal-mismatch"))
    assert await states(store, [run.id]) == ["cancelled"]


async def test_a_cancel_is_not_lost_when_the_run_just_goes_on_as_another(store: Store) -> None:
    run = await running(store)
    await store.cancel(run.id, "enough")
    following = new_run()
    await store.finish(fence(run), Finish(state="completed", reason="continued", next_run=following))
    assert await states(store, [run.id]) == ["cancelled"]
    with pytest.raises(NotFound):
        await store.run(following.id)


@pytest.mark.parametrize("onwards", ["retry", "continued"])
async def test_a_pause_is_not_lost_when_the_run_just_goes_on(store: Store, onwards: str) -> None:
    run = await running(store)
    await store.pause(run.id)
    retry = Finish(state="scheduled", reason="retry", wake_at=await store.now_ms())
    again = Finish(state="completed", reason="continued", next_run=new_run())
    await store.finish(fence(run), retry if onwards == "retry" else again)
    found = await store.run(run.id)
    assert (found.state, found.reason, found.continued_to) == ("parked", "paused", None)
    assert (await store.resume(run.id)).state == "available"


async def test_a_run_that_completes_has_completed_whatever_was_asked_meanwhile(store: Store) -> None:
    run = await running(store)
    await store.cancel(run.id, "too late")
    await store.finish(fence(run), COMPLETED)
    assert await states(store, [run.id]) == ["completed"]


async def test_a_mailbox_without_a_limit_lets_in_more_than_it_gives_places_at_once(store: Store) -> None:
    await store.configure_mailbox(Mailbox(name="a", concurrency=None, depth=None))
    await join(store)
    await store.enqueue([message() for _ in range(1100)])
    assert len(await claim(store, limit=2000)) == 1100


async def test_a_pause_of_the_mailbox_leaves_what_has_begun_its_place(store: Store) -> None:
    begun = await waiting(store, workflow="message", mailbox="a")
    await store.signal(Signal(id="s", run=begun.id, name="go", payload=b"p", at=1))
    await store.enqueue([message(priority=100)])
    await store.pause_mailbox("a", True)
    await store.pause_mailbox("a", False)
    assert [run.id for run in await claim(store)] == [begun.id], "one at a time: the other has not begun"


async def test_a_resumed_run_keeps_its_time_limit_and_a_retried_one_has_none(store: Store, time: Time) -> None:
    run = await add(store, timeout_ms=HOUR)
    await store.pause(run)
    limit = (await store.run(run)).deadline_at
    assert limit is not None
    assert (await store.resume(run)).deadline_at == limit
    await time.advance(HOUR)
    await store.promote()
    assert await states(store, [run]) == ["failed"]
    assert (await store.retry(run)).deadline_at is None
    await store.promote()
    assert await states(store, [run]) == ["available"]


async def test_a_retried_message_does_not_expire_again(store: Store, time: Time) -> None:
    stale = await add(store, expire_ms=MINUTE)
    await time.advance(MINUTE)
    await store.promote()
    assert await states(store, [stale]) == ["discarded"]
    await store.retry(stale)
    await store.promote()
    assert await states(store, [stale]) == ["available"]


async def test_retention_keeps_what_a_run_that_goes_on_may_still_ask_for(store: Store, time: Time) -> None:
    parent = await running(store)
    child = await ended(store, parent=parent.id, parent_pos="1")
    unrelated = await ended(store)
    first = await running(store)
    following = new_run()
    await store.finish(fence(first), Finish(state="completed", reason="continued", next_run=following))
    await time.advance(2 * DAY)
    assert await store.forget(DAY) == 1
    assert await states(store, [child.id, first.id]) == ["completed", "completed"]
    with pytest.raises(NotFound):
        await store.run(unrelated.id)


async def test_a_parked_parent_still_finds_its_child_after_retention(store: Store, time: Time) -> None:
    parent = await running(store)
    child = await add(store, parent=parent.id, parent_pos="1")
    assert await store.suspend(fence(parent), [Wait(pos="1", kind="child", name=child)], "child")
    await store.pause(parent.id)
    (claimed,) = await claim(store)
    await store.finish(fence(claimed), COMPLETED)
    await time.advance(2 * DAY)
    await store.forget(DAY)
    await store.resume(parent.id)
    assert list((await store.journal(parent.id)).children) == [child]


async def test_retrying_a_run_retries_the_children_that_ended_with_it(store: Store) -> None:
    parent = await running(store)
    done, open_ = [await add(store, parent=parent.id, parent_pos=pos) for pos in ("1", "2")]
    below = await add(store, parent=open_, parent_pos="1")
    await store.cancel(done, "")
    await store.append(fence(parent), [step(1, kind="child", error=b"e")])
    await store.suspend(fence(parent), [Wait(pos="2", kind="child", name=open_)], "child")
    await store.cancel(parent.id, "a mistake")
    assert await states(store, [done, open_, below]) == ["cancelled"] * 3
    await store.retry(parent.id)
    assert await states(store, [parent.id, open_, below]) == ["available"] * 3
    assert await states(store, [done]) == ["cancelled"], "its parent has recorded its end"


async def test_a_run_with_an_effect_in_doubt_is_not_forked(store: Store) -> None:
    run = await running(store)
    await store.intend(fence(run), effect(run.id))
    await store.doubt(fence(run), "1")
    await store.finish(fence(run), Finish(state="parked", reason="effect-in-doubt"))
    with pytest.raises(Conflict, match="nobody knows yet"):
        await store.fork(run.id, None, new_id())
    await store.resolve(run.id, "1", b"it happened")
    fork = await store.fork(run.id, None, new_id())
    assert [each.result for each in await store.steps(fork.id)] == [b"it happened"]
