"""Every store: an agent's journal goes back to a moment, and what was done stays done."""

from __future__ import annotations

import pytest
from conformance import (
    COMPLETED,
    HOUR,
    Time,
    add,
    claim,
    effect,
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
from moments import ALL, Moment, act, again, effects, journal

from relit.errors import Fenced
from relit.store.base import Store
from relit.store.values import Finish, Run, Signal, StreamItem, Wait

# --- unfinished runs -----------------------------------------------------------------------------------------------


async def test_steps_after_the_moment_are_superseded_under_their_numbers(store: Store, time: Time) -> None:
    run = await running(store)
    await store.append(fence(run), [step(1), step(2)])
    moment = await Moment.now(store, time)
    await store.append(fence(run), [step(3), step(4)])
    assert (await moment.since(store)).steps == {run.id: 2}
    assert await moment.back(store) == [run.id]
    assert await journal(store, run.id) == [
        (1, "step", "1"),
        (2, "step", "2"),
        (3, "superseded", "~3"),
        (4, "superseded", "~4"),
    ]
    assert await states(store, [run.id]) == ["available"]
    assert (await event_names(store))[-1] == "journal.rewound"


async def test_a_run_that_wrote_nothing_since_is_only_let_go(store: Store, time: Time) -> None:
    run = await running(store)
    await store.append(fence(run), [step(1)])
    await store.intend(fence(run), effect(run.id, "2"))
    moment = await Moment.now(store, time)
    assert await moment.back(store) == []
    assert await states(store, [run.id]) == ["available"]
    assert await effects(store, run.id) == [("2", "open")]
    assert await journal(store, run.id) == [(1, "step", "1")]


async def test_whatever_its_last_worker_still_writes_is_refused(store: Store, time: Time) -> None:
    run = await running(store)
    moment = await Moment.now(store, time)
    await store.append(fence(run), [step(1)])
    await moment.back(store)
    zombie = fence(run)
    for write in (
        store.append(zombie, [step(2)]),
        store.intend(zombie, effect(run.id, "2")),
        store.doubt(zombie, "2"),
        store.finish(zombie, COMPLETED),
        store.suspend(zombie, [signal_wait()], "signal"),
    ):
        with pytest.raises(Fenced):
            await write
    assert (await again(store, run.id)).epoch == run.epoch + 1
    with pytest.raises(Fenced):
        await store.append(zombie, [step(2)])


async def test_a_run_goes_on_where_it_was_and_records_under_new_numbers(store: Store, time: Time) -> None:
    run = await running(store)
    await store.append(fence(run), [step(1)])
    moment = await Moment.now(store, time)
    await store.append(fence(run), [step(2)])
    await moment.back(store)
    claimed = await again(store, run.id)
    await store.append(fence(claimed), [step(3, pos="2", name="other")])
    assert await journal(store, run.id) == [(1, "step", "1"), (2, "superseded", "~2"), (3, "step", "2")]


async def test_going_back_twice_to_the_same_moment_changes_nothing_more(store: Store, time: Time) -> None:
    run = await running(store)
    moment = await Moment.now(store, time)
    await act(store, run, 1)
    assert await moment.back(store) == [run.id]
    found = await journal(store, run.id), await effects(store, run.id)
    assert await moment.back(store) == []
    assert (await journal(store, run.id), await effects(store, run.id)) == found


async def test_a_run_that_waits_for_what_came_since_does_not_wait_any_more(store: Store, time: Time) -> None:
    run = await running(store)
    moment = await Moment.now(store, time)
    await store.append(fence(run), [step(1)])
    await store.suspend(fence(run), [Wait(pos="2", kind="timer", wake_at=await store.now_ms() + HOUR)], "sleep")
    await moment.back(store)
    found = await store.run(run.id)
    assert (found.state, found.wake_at, await store.waits(run.id)) == ("available", None, [])


async def test_a_run_that_still_waits_for_what_it_waited_for_then_goes_on_waiting(store: Store, time: Time) -> None:
    run = await waiting(store, signal_wait())
    moment = await Moment.now(store, time)
    assert await moment.back(store) == []
    assert await states(store, [run.id]) == ["waiting"]
    assert len(await store.waits(run.id)) == 1


async def test_a_parked_run_stays_parked_without_the_waits_of_later(store: Store, time: Time) -> None:
    run = await running(store)
    moment = await Moment.now(store, time)
    await store.append(fence(run), [step(1)])
    await store.suspend(fence(run), [signal_wait(pos="2")], "signal")
    await store.pause(run.id)
    assert await moment.back(store) == [run.id]
    assert await states(store, [run.id]) == ["parked"]
    assert await store.waits(run.id) == []


async def test_a_request_to_the_worker_that_was_stopped_is_carried_out(store: Store, time: Time) -> None:
    cancelled, paused = await running(store), await running(store)
    moment = await Moment.now(store, time)
    await store.append(fence(paused), [step(1)])
    await store.cancel(cancelled.id, "enough")
    await store.pause(paused.id)
    await moment.back(store)
    assert await states(store, [cancelled.id, paused.id]) == ["cancelled", "parked"]
    assert (await store.resume(paused.id)).request is None


async def test_a_mailbox_gives_its_place_again(store: Store, time: Time) -> None:
    run = await running(store, workflow="message", mailbox="a", kind="message")
    moment = await Moment.now(store, time)
    await store.append(fence(run), [step(1)])
    await store.enqueue([message()])
    await moment.back(store)
    assert [each.id for each in await claim(store)] == [run.id], "it came first, and there is one place"


async def test_a_run_that_failed_before_and_was_retried_since_goes_by_its_steps_times(store: Store, time: Time) -> None:
    run = await running(store)
    now = await store.now_ms()
    await store.append(fence(run), [step(1, finished_at=now), step(2, finished_at=now, error=b"e")])
    await store.finish(fence(run), Finish(state="failed", failed_pos="2"))
    moment = await Moment.now(store, time)
    assert moment.runs == {}
    await store.retry(run.id)
    claimed = await again(store, run.id)
    await store.append(fence(claimed), [step(3, pos="2", finished_at=await store.now_ms())])
    assert (await moment.since(store)).steps == {run.id: 1}
    await moment.back(store, "drop")
    assert await journal(store, run.id) == [(1, "step", "1"), (2, "forgotten", "~2"), (3, "superseded", "~3")]
    assert await states(store, [run.id]) == ["available"], "it did not come since"


async def test_what_the_stream_had_since_is_told_apart(store: Store, time: Time) -> None:
    run = await running(store)
    await store.emit(fence(run), [StreamItem(idx=0, pos="", attempt=1, data=b"before")])
    moment = await Moment.now(store, time)
    await store.emit(fence(run), [StreamItem(idx=1, pos="", attempt=1, data=b"after")])
    await store.append(fence(run), [step(1)])
    await moment.back(store)
    assert [(each.idx, each.pos) for each in await store.stream(run.id)] == [(0, ""), (1, "~")]


# --- effects -------------------------------------------------------------------------------------------------------


async def test_effects_before_the_moment_stay_where_they_are_and_later_ones_are_adrift(
    store: Store, time: Time
) -> None:
    run = await running(store)
    await act(store, run, 1)
    moment = await Moment.now(store, time)
    await act(store, run, 2)
    await store.intend(fence(run), effect(run.id, "3", name="mail"))
    await moment.back(store)
    assert await effects(store, run.id) == [("1", "done"), ("2@1", "kept"), ("3@1", "open")]
    found = (await store.journal(run.id)).effects
    assert sorted((each.pos, each.result) for each in found) == [("2@1", b"paid"), ("3@1", None)]


async def test_an_effect_that_failed_since_leaves_its_position_to_others(store: Store, time: Time) -> None:
    run = await running(store)
    await store.intend(fence(run), effect(run.id, "1"))
    await store.append(fence(run), [step(1, kind="effect", error=b"no")])
    moment = await Moment.now(store, time)
    await store.intend(fence(run), effect(run.id, "2"))
    await store.append(fence(run), [step(2, kind="effect", error=b"no")])
    await moment.back(store)
    assert await effects(store, run.id) == [("1", "failed")]


async def test_a_kept_effect_is_adopted_with_the_step_that_records_it(store: Store, time: Time) -> None:
    run = await running(store)
    moment = await Moment.now(store, time)
    await act(store, run, 1)
    await moment.back(store)
    claimed = await again(store, run.id)
    await store.append(
        fence(claimed), [step(2, pos="5", kind="effect", name="pay", result=b"paid", attempts=0)], adopts="1@1"
    )
    assert await effects(store, run.id) == [("5", "done")]
    await moment.back(store)
    assert await effects(store, run.id) == [("5@2", "kept")], "once more"


async def test_a_fenced_step_adopts_nothing(store: Store, time: Time) -> None:
    run = await running(store)
    moment = await Moment.now(store, time)
    await act(store, run, 1)
    await moment.back(store)
    with pytest.raises(Fenced):
        await store.append(fence(run), [step(2, pos="5", kind="effect")], adopts="1@1")
    with pytest.raises(Fenced):
        await store.intend(fence(run), effect(run.id, "5"), adopts="1@1")
    assert await effects(store, run.id) == [("1@1", "kept")]


async def test_an_open_effect_is_adopted_with_its_key(store: Store, time: Time) -> None:
    run = await running(store)
    moment = await Moment.now(store, time)
    await store.append(fence(run), [step(1)])
    await store.intend(fence(run), effect(run.id, "2", key="first"))
    await moment.back(store)
    claimed = await again(store, run.id)
    moved = effect(run.id, "9", key="first")
    await store.intend(fence(claimed), moved, adopts="2@1")
    await store.intend(fence(claimed), moved, adopts="2@1")  # the answer to the first was lost
    (found,) = await store.effects(run=run.id, states=ALL)
    assert (found.pos, found.state, found.key) == ("9", "open", "first")


async def test_many_runs_adopt_at_once(store: Store, time: Time) -> None:
    await join(store)
    for _ in range(20):
        await add(store)
    runs = await claim(store)
    moment = await Moment.now(store, time)
    for run in runs:
        await act(store, run, 1)
    assert await moment.back(store) == sorted(run.id for run in runs)
    for run in await claim(store):
        await store.append(fence(run), [step(2, pos="7", kind="effect")], adopts="1@1")
        await store.intend(fence(run), effect(run.id, "8"))
    assert [await effects(store, run.id) for run in runs] == [[("7", "done"), ("8", "open")]] * 20


@pytest.mark.parametrize(("result", "left"), [(b"it did", [("2@1", "kept")]), (None, [])])
async def test_a_persons_word_on_an_effect_that_is_adrift(
    store: Store, time: Time, result: bytes | None, left: list[tuple[str, str]]
) -> None:
    run = await running(store)
    moment = await Moment.now(store, time)
    await store.append(fence(run), [step(1)])
    await store.intend(fence(run), effect(run.id, "2"))
    await store.doubt(fence(run), "2")
    await store.finish(fence(run), Finish(state="parked", reason="effect-in-doubt"))
    await moment.back(store)
    assert await states(store, [run.id]) == ["parked"], "a person is asked all the same"
    assert await effects(store, run.id) == [("2@1", "in_doubt")]
    await store.resolve(run.id, "2@1", result)
    assert await states(store, [run.id]) == ["available"]
    assert await effects(store, run.id) == left
    assert await journal(store, run.id) == [(1, "superseded", "~1")], "no step: nobody has come there yet"


# --- signals -------------------------------------------------------------------------------------------------------


def go(id_: str, payload: bytes, run: str, name: str = "go") -> Signal:
    return Signal(id=id_, run=run, name=name, payload=payload, at=1)


async def took(store: Store, run: Run, seq: int, id_: str, payload: bytes) -> None:
    await store.append(fence(run), [step(seq, kind="signal", name="go", result=payload)], consume=[id_])


async def unread(store: Store, run: str) -> list[str]:
    return [each.id for each in (await store.journal(run)).signals]


async def test_signals_of_superseded_steps_are_there_again_in_their_order(store: Store, time: Time) -> None:
    run = await running(store)
    for id_ in ("s1", "s2", "s3", "s4"):
        await store.signal(go(id_, b"same", run.id))
    await took(store, run, 1, "s1", b"same")
    moment = await Moment.now(store, time)
    await took(store, run, 2, "s2", b"same")
    await took(store, run, 3, "s3", b"same")
    await moment.back(store)
    assert await unread(store, run.id) == ["s2", "s3", "s4"]
    assert await store.signal(go("s2", b"same", run.id)) is False, "a repeated id is one signal still"


async def test_a_signal_stays_taken_by_the_step_that_holds_it_whatever_the_order(store: Store, time: Time) -> None:
    run = await running(store)
    await store.signal(go("s1", b"first", run.id))
    await store.signal(go("s2", b"second", run.id))
    await took(store, run, 1, "s2", b"second")  # two branches waited: this one was recorded first
    moment = await Moment.now(store, time)
    await took(store, run, 2, "s1", b"first")
    await moment.back(store)
    assert await unread(store, run.id) == ["s1"]
