"""Every store: an agent's journal goes back to a moment, and what was done stays done."""

from __future__ import annotations

from typing import Any

import pytest
from conformance import (
    COMPLETED,
    HOUR,
    MINUTE,
    Time,
    add,
    claim,
    effect,
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
    waiting,
)

from relit.errors import Fenced
from relit.store.base import Store
from relit.store.values import Finish, Messages, Rewind, Run, Signal, Since, StreamItem, Wait

ALL = ("open", "in_doubt", "done", "failed", "kept")


class Moment:
    """A moment of agent ``a``, as a snapshot remembers it."""

    def __init__(self, at_ms: int, event: str, runs: dict[str, int]) -> None:
        self.at_ms = at_ms
        self.event = event
        self.runs = runs

    @classmethod
    async def now(cls, store: Store, time: Time) -> Moment:
        """The present, with a minute between it and all that comes."""
        found = [run for run in await store.runs(agent="a", limit=1000) if not run.final]
        seqs = {run.id: max((each.seq for each in await store.steps(run.id)), default=0) for run in found}
        moment = cls(await store.now_ms(), await store.last_event(), seqs)
        await time.advance(MINUTE)
        return moment

    async def back(self, store: Store, messages: Messages = "keep") -> list[str]:
        wanted = Rewind(agent="a", at_ms=self.at_ms, event=self.event, runs=self.runs, messages=messages)
        return sorted(await store.rewind(wanted))

    async def since(self, store: Store) -> Since:
        return await store.since("a", self.at_ms, self.runs)


async def journal(store: Store, run: str) -> list[tuple[int, str, str]]:
    return [(each.seq, each.kind, each.pos) for each in await store.steps(run)]


async def effects(store: Store, run: str) -> list[tuple[str, str]]:
    return sorted((each.pos, each.state) for each in await store.effects(run=run, states=ALL))


async def act(store: Store, run: Run, seq: int, **options: Any) -> None:
    """An effect with its receipt."""
    pos = str(seq)
    await store.intend(fence(run), effect(run.id, pos, intent_at=await store.now_ms(), **options))
    await store.append(fence(run), [step(seq, kind="effect", name=options.get("name", "pay"), result=b"paid")])


async def again(store: Store, run: str) -> Run:
    """The run, claimed once more."""
    (found,) = [each for each in await claim(store) if each.id == run]
    return found


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
