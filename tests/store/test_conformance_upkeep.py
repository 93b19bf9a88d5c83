"""Every store: schedules, events, tokens, webhooks, retention, opening."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from conformance import (
    DAY,
    HOUR,
    MINUTE,
    OpenStore,
    Time,
    add,
    claim,
    ended,
    event_names,
    fence,
    join,
    message,
    new_run,
    running,
    signal_wait,
    states,
    step,
)

from relit.errors import MailboxFull, NotFound
from relit.events import Event
from relit.store.base import Store
from relit.store.values import Finish, Firing, Footprint, Mailbox, Schedule, Signal, StreamItem, Subscriber, Token


def schedule(**options: object) -> Schedule:
    given = {"name": "nightly", "agent": "a", "workflow": "w", "input": b"in", "spec": b"{}", "next_at": 1000}
    return Schedule(**(given | options))  # type: ignore[arg-type]


async def test_a_schedule_is_put_listed_and_removed(store: Store) -> None:
    await store.put_schedule(schedule())
    [found] = await store.schedules()
    assert msgspec.structs.replace(found, rev=0) == schedule()
    await store.remove_schedule("nightly")
    assert await store.schedules() == []
    with pytest.raises(NotFound):
        await store.remove_schedule("nightly")
    with pytest.raises(NotFound):
        await store.pause_schedule("nightly", True, None)


async def test_replacing_a_schedule_keeps_its_pause_and_its_past(store: Store) -> None:
    await store.put_schedule(schedule())
    [first] = await store.schedules()
    assert await store.fire("nightly", first.rev, 2000, [Firing(schedule="nightly", due_at=1000, outcome="fired")], [])
    await store.pause_schedule("nightly", True, None)
    await store.put_schedule(schedule(input=b"new", next_at=9000))
    [found] = await store.schedules()
    assert (found.input, found.paused, found.last_at, found.next_at) == (b"new", True, 1000, 9000)
    assert found.rev > first.rev


async def test_a_moment_is_fired_once_whoever_fires_it(store: Store) -> None:
    await store.put_schedule(schedule())
    [found] = await store.schedules()

    async def fire() -> bool:
        run = new_run(schedule="nightly", kind="schedule")
        firing = Firing(schedule="nightly", due_at=1000, outcome="fired", run=run.id)
        return await store.fire("nightly", found.rev, 2000, [firing], [run])

    assert sorted(await asyncio.gather(*(fire() for _ in range(5)))) == [False] * 4 + [True]
    [run] = await store.runs(schedule="nightly")
    [firing] = await store.firings("nightly")
    assert (firing.run, firing.due_at, firing.outcome, firing.at > 0) == (run.id, 1000, "fired", True)
    [moved] = await store.schedules()
    assert (moved.next_at, moved.last_at) == (2000, 1000)


async def test_missed_firings_are_seen(store: Store) -> None:
    await store.put_schedule(schedule())
    [found] = await store.schedules()
    missed = [Firing(schedule="nightly", due_at=due, outcome="missed", reason="down") for due in (1000, 2000)]
    assert await store.fire("nightly", found.rev, 3000, missed, [])
    assert [firing.due_at for firing in await store.firings("nightly")] == [2000, 1000]
    assert (await store.firings("nightly", limit=1))[0].reason == "down"
    assert (await event_names(store)).count("schedule.missed") == 2


async def test_a_firing_replaces_the_run_before_it(store: Store) -> None:
    await store.put_schedule(schedule())
    done = (await ended(store)).id
    old = await add(store, schedule="nightly")
    [found] = await store.schedules()
    new = new_run(schedule="nightly")
    firing = Firing(schedule="nightly", due_at=1000, outcome="fired", run=new.id)
    assert await store.fire("nightly", found.rev, 2000, [firing], [new], [old, done])
    assert await states(store, [done, old, new.id]) == ["completed", "cancelled", "available"]


async def test_a_firing_that_does_not_fit_leaves_all_as_it_was(store: Store) -> None:
    await store.put_schedule(schedule())
    await store.configure_mailbox(Mailbox(name="a", depth=0))
    [found] = await store.schedules()
    firing = Firing(schedule="nightly", due_at=1000, outcome="fired")
    with pytest.raises(MailboxFull):
        await store.fire("nightly", found.rev, 2000, [firing], [message()])
    assert await store.schedules() == [found]
    assert await store.firings("nightly") == []


# --- events ------------------------------------------------------------------------------------------------------


async def test_events_are_paged_without_gaps(store: Store) -> None:
    await store.record([Event("", 0, "server.started", data={"n": n}) for n in range(25)])
    seen: list[int] = []
    after = ""
    while page := await store.events(after, limit=4):
        seen += [event.data["n"] for event in page]
        after = page[-1].id
    assert seen == list(range(25))
    assert after == await store.last_event()


async def test_events_keep_what_they_say(store: Store) -> None:
    given = Event("", 77, "instance.died", "agent", "run", {"code": 3, "nested": {"a": [1, None]}})
    await store.record([given, Event("", 0, "server.started")])
    first, second = await store.events()
    assert msgspec.structs.replace(first, id="") == given
    assert second.at > 1_600_000_000_000
    assert [event.name for event in await store.events(names=["server.started"])] == ["server.started"]


async def test_a_reader_that_follows_skips_nothing_while_many_write(store: Store, open_store: OpenStore) -> None:
    other = open_store()
    await other.start()
    seen: list[str] = []
    expected = 120

    async def follow() -> None:
        heard = store.subscribe("events")
        after = ""
        while len(seen) < expected:
            page = await store.events(after, limit=7)
            seen.extend(event.data["n"] for event in page)
            after = page[-1].id if page else after
            if not page:
                await heard.wait(5)
        heard.close()

    async def write(writer: Store, name: str) -> None:
        for n in range(expected // 4):
            await writer.record([Event("", 0, "server.started", data={"n": f"{name}{n}"})])

    writers = [write(each, name) for each, name in ((store, "a"), (store, "b"), (other, "c"), (other, "d"))]
    await asyncio.wait_for(asyncio.gather(follow(), *writers), 30)
    assert len(set(seen)) == len(seen) == expected
    for name in "abcd":
        mine = [n for n in seen if n.startswith(name)]
        assert mine == [f"{name}{n}" for n in range(expected // 4)]
    await other.stop()


async def test_a_store_without_events_has_a_place_to_begin(store: Store) -> None:
    begin = await store.last_event()
    assert await store.events(begin) == []
    await store.record([Event("", 0, "server.started")])
    assert len(await store.events(begin)) == 1


# --- tokens and webhooks -----------------------------------------------------------------------------------------


async def test_what_was_learnt_from_more_starts_holds(store: Store) -> None:
    few = Footprint(what="openclaw 1", peak=9 << 30, settled=7, cpu_s=14.5, seen=3)
    other = Footprint(what="hermes 1", peak=3, settled=2, cpu_s=0.25, seen=1)
    await store.put_footprints([few, other])
    assert await store.footprints() == [other, few]
    more, less = msgspec.structs.replace(few, peak=8, seen=4), msgspec.structs.replace(few, peak=1, seen=2)
    await store.put_footprints([more])
    await store.put_footprints([less])
    assert await store.footprints() == [other, more]


async def test_tokens_are_kept_by_name(store: Store) -> None:
    token = Token(name="ci", hash="00ff", scopes=["runs:read", "runs:write"], created_at=5)
    await store.put_token(token)
    assert await store.tokens() == [token]
    used = msgspec.structs.replace(token, last_used_at=9)
    await store.put_token(used)
    assert await store.tokens() == [used]
    await store.remove_token("ci")
    assert await store.tokens() == []
    with pytest.raises(NotFound):
        await store.remove_token("ci")


async def test_subscribers_are_replaced_whole(store: Store) -> None:
    hook = Subscriber(name="h", url="http://x/y", events=["run.*", "worker.died"], secret="s")
    await store.put_subscriber(hook)
    assert await store.subscribers() == [hook]
    moved = msgspec.structs.replace(hook, cursor=await store.last_event(), failures=3, retry_at=99)
    await store.put_subscriber(moved)
    assert await store.subscribers() == [moved]
    await store.remove_subscriber("h")
    with pytest.raises(NotFound):
        await store.remove_subscriber("h")


# --- upkeep ------------------------------------------------------------------------------------------------------


async def full_run(store: Store) -> str:
    """An ended run that left something in every table."""
    run = await running(store, dedup="key", dedup_ms=HOUR)
    await store.append(fence(run), [step(1)])
    await store.emit(fence(run), [StreamItem(idx=0, pos="1", attempt=1, data=b"d")])
    await store.signal(Signal(id=f"s-{run.id}", run=run.id, name="go", payload=b"", at=0))
    await store.finish(fence(run), Finish(state="completed"))
    return run.id


async def test_retention_forgets_ended_runs_with_all_that_is_theirs(store: Store, time: Time) -> None:
    old = await full_run(store)
    lives = await running(store)
    assert await store.suspend(fence(lives), [signal_wait()], "signal")
    assert await store.forget(DAY) == 0
    await time.advance(2 * DAY)
    young = await add(store)
    await store.cancel(young, "x")
    assert await store.forget(DAY) == 1
    with pytest.raises(NotFound):
        await store.run(old)
    journal = await store.journal(old)
    assert (journal.steps, journal.signals, journal.streamed) == ([], [], 0)
    assert {run.id for run in await store.runs()} == {lives.id, young}
    assert {event.run for event in await store.events()} <= {lives.id, young, None}
    assert await store.stream(old) == []


async def test_retention_goes_in_portions(store: Store, time: Time) -> None:
    for _ in range(5):
        await store.cancel(await add(store), "x")
    await time.advance(DAY + MINUTE)
    assert [await store.forget(DAY, limit=2) for _ in range(4)] == [2, 2, 1, 0]


async def test_a_store_opens_again_as_it_was(store: Store, open_store: OpenStore) -> None:
    run = await running(store)
    await store.append(fence(run), [step(1)])
    again = open_store()
    await again.start()
    assert (await again.run(run.id)).state == "running"
    await again.append(fence(run), [step(2)])
    assert len(await store.steps(run.id)) == 2
    await again.stop()
    await again.stop()


async def test_two_stores_on_one_database_share_the_work_and_wake_each_other(
    store: Store, open_store: OpenStore
) -> None:
    other = open_store()
    await other.start()
    heard = other.subscribe("ready")
    await join(store)
    ids = [await add(store) for _ in range(20)]
    assert await heard.wait(5)
    heard.close()
    found = await asyncio.gather(*(claim(each, limit=3) for each in (store, other) * 5))
    assert sorted(run.id for runs in found for run in runs) == sorted(ids)
    await other.stop()


async def test_many_stores_start_on_a_fresh_database_at_once(open_store: OpenStore) -> None:
    stores = [open_store() for _ in range(4)]
    await asyncio.gather(*(each.start() for each in stores))
    await stores[0].enqueue([new_run(id="seen")])
    assert [(await each.run("seen")).state for each in stores] == ["available"] * 4
    for each in stores:
        await each.stop()


async def test_the_store_clock_moves(store: Store, time: Time) -> None:
    before = await store.now_ms()
    await time.advance(HOUR)
    assert HOUR <= await store.now_ms() - before < HOUR + MINUTE
