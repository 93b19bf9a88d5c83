"""Every store: steps under a fence, what a replay reads, streams, heartbeats."""

from __future__ import annotations

import asyncio

import pytest
from conformance import (
    COMPLETED,
    add,
    claim,
    effect,
    event_names,
    fence,
    join,
    message,
    new_run,
    running,
    signal_wait,
    states,
    step,
    waiting,
)

from relit.errors import Fenced, MailboxFull
from relit.store.base import Store
from relit.store.values import Fence, Finish, Mailbox, Signal, StreamItem


async def test_steps_are_read_back_as_they_were(store: Store) -> None:
    run = await running(store)
    steps = [
        step(1, pos="2/0.1", name="fetch", result=b"\x00", started_at=5, finished_at=9, attempts=2),
        step(2, kind="effect", hash=b"", error=b"boom"),
    ]
    await store.append(fence(run), steps)
    assert (await store.journal(run.id)).steps == steps
    assert await store.steps(run.id) == steps
    assert await store.steps(run.id, after=1, limit=1) == steps[1:]
    assert await store.last_steps(run.id) == steps[-1:]
    assert await store.last_steps(run.id, 5) == steps
    assert await store.last_steps("nobody") == []


async def test_many_runs_append_at_once(store: Store) -> None:
    await join(store)
    for _ in range(40):
        await add(store)
    runs = await claim(store)

    async def work(claimed: Fence) -> None:
        for seq in range(1, 6):
            await store.append(claimed, [step(seq)])

    await asyncio.gather(*(work(fence(run)) for run in runs))
    assert [len(await store.steps(run.id)) for run in runs] == [5] * 40


async def test_an_older_claim_writes_nothing(store: Store) -> None:
    run = await running(store)
    old = Fence(run.id, run.epoch - 1)
    writes = [
        store.append(old, [step(1)]),
        store.intend(old, effect(run.id)),
        store.doubt(old, "1"),
        store.emit(old, [StreamItem(idx=0, pos="1", attempt=1, data=b"d")]),
        store.suspend(old, [signal_wait()], "signal"),
        store.finish(old, COMPLETED),
        store.beat(old, b"d"),
    ]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [Fenced] * len(writes)
    journal = await store.journal(run.id)
    assert (journal.steps, journal.effects, journal.streamed) == ([], [], 0)
    assert await store.run(run.id) == run


async def test_an_older_claim_among_good_ones_fails_alone(store: Store) -> None:
    await join(store)
    for _ in range(5):
        await add(store)
    runs = await claim(store)
    fences = [fence(run) for run in runs]
    fences[2] = Fence(runs[2].id, 99)
    results = await asyncio.gather(*(store.append(f, [step(1)]) for f in fences), return_exceptions=True)
    assert [isinstance(result, Fenced) for result in results] == [False, False, True, False, False]
    assert [len(await store.steps(run.id)) for run in runs] == [1, 1, 0, 1, 1]


async def test_a_step_that_breaks_a_rule_fails_alone_and_whole(store: Store) -> None:
    await join(store)
    for _ in range(6):
        await add(store)
    runs = await claim(store)
    await store.append(fence(runs[3]), [step(1)])
    writes = [store.append(fence(run), [step(2), step(1)]) for run in runs]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [result is None for result in results] == [True, True, True, False, True, True]
    assert [len(await store.steps(run.id)) for run in runs] == [2, 2, 2, 1, 2, 2]


async def test_an_ended_claim_writes_no_more(store: Store) -> None:
    run = await running(store)
    await store.finish(fence(run), COMPLETED)
    with pytest.raises(Fenced):
        await store.append(fence(run), [step(1)])
    with pytest.raises(Fenced):
        await store.finish(fence(run), COMPLETED)
    assert (await store.run(run.id)).output == b"out"


async def test_what_a_step_sends_is_made_in_the_same_commit(store: Store) -> None:
    run = await running(store)
    sent = new_run()
    await store.append(fence(run), [step(1, kind="send")], sends=[sent])
    assert await states(store, [sent.id]) == ["available"]
    with pytest.raises(Fenced):
        await store.append(Fence(run.id, 99), [step(2)], sends=[new_run(id="never")])
    assert await store.find_runs("never") == []


async def test_a_step_whose_message_does_not_fit_is_not_recorded(store: Store) -> None:
    run = await running(store)
    await store.configure_mailbox(Mailbox(name="a", depth=1, concurrency=0))
    await store.enqueue([message()])
    writes = [store.append(fence(run), [step(1)], sends=[message()]), store.enqueue([new_run(id="bystander")])]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results[0], MailboxFull)
    assert await store.steps(run.id) == []
    assert await states(store, ["bystander"]) == ["available"]


async def test_consumed_signals_are_not_read_again_nor_delivered_again(store: Store) -> None:
    run = await running(store)
    await store.signal(Signal(id="s1", run=run.id, name="go", payload=b"1", at=0))
    await store.signal(Signal(id="s2", run=run.id, name="go", payload=b"2", at=0))
    assert [signal.payload for signal in (await store.arrivals(run.id)).signals] == [b"1", b"2"]
    await store.append(fence(run), [step(1, kind="signal")], consume=["s1"])
    assert [signal.id for signal in (await store.journal(run.id)).signals] == ["s2"]
    assert not await store.signal(Signal(id="s1", run=run.id, name="go", payload=b"1", at=0))
    assert [signal.id for signal in (await store.arrivals(run.id)).signals] == ["s2"]


async def test_a_step_settles_the_wait_at_its_position(store: Store) -> None:
    run = await waiting(store, signal_wait(pos="1"), signal_wait("other", pos="2"))
    await store.signal(Signal(id="s", run=run.id, name="go", payload=b"", at=0))
    [again] = await claim(store)
    assert [wait.pos for wait in (await store.journal(run.id)).waits] == ["1", "2"]
    await store.append(fence(again), [step(1, kind="signal")], consume=["s"])
    assert [wait.pos for wait in await store.waits(run.id)] == ["2"]


async def test_failures_to_be_forgotten_are_done_again(store: Store) -> None:
    run = await running(store, max_attempts=2)
    await store.append(fence(run), [step(1), step(2, error=b"boom")])
    await store.finish(fence(run), Finish(state="scheduled", wake_at=await store.now_ms(), forget=("1", "2")))
    assert [each.pos for each in await store.steps(run.id)] == ["1", "~2"], "only failures are forgotten"


async def test_stream_items_are_kept_once_and_paged(store: Store) -> None:
    run = await running(store)
    items = [StreamItem(idx=i, pos="1", attempt=1, data=bytes([i])) for i in range(5)]
    await store.emit(fence(run), items[:3])
    await store.emit(fence(run), [StreamItem(idx=2, pos="1", attempt=1, data=b"other"), *items[3:]])
    assert [item.data for item in await store.stream(run.id)] == [item.data for item in items]
    assert [item.idx for item in await store.stream(run.id, after=2, limit=1)] == [3]
    assert (await store.journal(run.id)).streamed == 5
    assert (await store.stream(run.id))[0].at > 0


async def test_a_heartbeat_of_a_live_claim_is_taken(store: Store) -> None:
    run = await running(store)
    await asyncio.gather(*(store.beat(fence(run), b"detail") for _ in range(5)))
    assert (await store.run(run.id)).state == "running"


async def test_a_released_run_is_claimed_again_without_a_crash(store: Store) -> None:
    run = await running(store)
    await store.append(fence(run), [step(1)])
    await store.release([fence(run), Fence("gone", 1), Fence(run.id, 99)])
    [again] = await claim(store)
    assert (again.id, again.epoch, again.crashes, again.taken_over) == (run.id, run.epoch + 1, 0, None)
    assert len((await store.journal(run.id)).steps) == 1
    with pytest.raises(Fenced):
        await store.append(fence(run), [step(2)])


async def test_a_continued_run_passes_on_its_signals_its_place_and_its_parent(store: Store) -> None:
    await join(store)
    parent = await add(store)
    [claimed] = await claim(store)
    child = message(parent=parent)
    await store.enqueue([child])
    [first] = await claim(store)
    wait = signal_wait(child.id, kind="child")
    assert await store.suspend(fence(claimed), [wait], "child")
    await store.signal(Signal(id="s", run=child.id, name="go", payload=b"", at=0))
    following = message(parent=parent)
    await store.finish(fence(first), Finish(state="completed", next_run=following))
    assert await states(store, [child.id, parent]) == ["completed", "waiting"]
    [second] = await claim(store)
    assert second.id == following.id
    assert (await store.run(child.id)).continued_to == following.id
    assert [signal.id for signal in (await store.journal(following.id)).signals] == ["s"]
    await store.finish(fence(second), COMPLETED)
    assert await states(store, [parent]) == ["available"]
    assert list((await store.journal(parent)).children) == [following.id]


async def test_what_happens_to_a_run_is_told(store: Store) -> None:
    run = await running(store)
    steps, end = store.subscribe(f"steps:{run.id}"), store.subscribe(f"end:{run.id}")
    await store.append(fence(run), [step(1)])
    assert await steps.wait(5)
    await store.finish(fence(run), COMPLETED)
    assert await end.wait(5)
    steps.close()
    end.close()
    assert await event_names(store, run.id) == ["run.enqueued", "run.started", "run.completed"]
