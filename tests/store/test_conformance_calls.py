"""Every store: calls to models, what they cost, and budgets that concurrent calls cannot overshoot."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from conformance import DAY, OpenStore, Time, claim, fence, join, message, step

from relit.errors import BudgetSpent
from relit.store.base import Store
from relit.store.sql.calls import USD, SqlCalls, day_of
from relit.store.sql.store import SqlStore
from relit.store.values import Answer, Budget, ModelCall, Turn

AGENT = Budget(scope="agent:scout", limit=10 * USD, warn=8 * USD)
MODEL = Budget(scope="model:default", limit=4 * USD)


def call(id: str = "c1", **options: Any) -> ModelCall:
    given = {"id": id, "agent": "scout", "route": "default", "gateway": "g1", "model": "m", "reserved": USD}
    return ModelCall(**(given | options))


def done(opened: ModelCall, **options: Any) -> ModelCall:
    given = {"state": "done", "status": 200, "input": 100, "output": 20, "cost": USD // 2}
    return msgspec.structs.replace(opened, **(given | options))


@pytest.fixture
async def calls(store: Store) -> SqlCalls:
    assert isinstance(store, SqlStore)
    return store.calls


async def spent(store: Store, scope: str) -> tuple[int, int]:
    assert isinstance(store, SqlStore)
    [found] = [each for each in await store.calls.spending(day_of(await store.now_ms())) if each.scope == scope]
    return found.spent, found.reserved


async def test_a_call_is_written_down_before_and_after(calls: SqlCalls, store: Store) -> None:
    opened = await calls.open(call(run="r1", protocol="chat"), [AGENT])
    assert await calls.open_calls() == [opened]
    assert (opened.state, opened.number, opened.ended_at) == ("open", 1, None)
    assert await spent(store, "agent:scout") == (0, USD)
    assert await calls.end(done(opened, model="m-2026", why="ü", estimated=True))
    [found] = await calls.of_run("r1")
    assert (found.state, found.status, found.model, found.why, found.estimated) == ("done", 200, "m-2026", "ü", True)
    assert (found.input, found.output, found.cost) == (100, 20, USD // 2)
    assert found.ended_at is not None
    assert await spent(store, "agent:scout") == (USD // 2, 0)
    assert await calls.open_calls() == []


async def test_a_call_ends_once(calls: SqlCalls, store: Store) -> None:
    opened = await calls.open(call(), [AGENT])
    assert await calls.end(done(opened))
    assert not await calls.end(done(opened, cost=9 * USD))
    assert not await calls.end(done(call("unknown")))
    assert await spent(store, "agent:scout") == (USD // 2, 0)


async def test_calls_of_a_run_are_in_order_and_others_are_not_among_them(calls: SqlCalls) -> None:
    for id, run in (("a", "r1"), ("b", "r2"), ("c", "r1"), ("d", "")):
        await calls.open(call(id, run=run), [])
    assert [(each.id, each.number) for each in await calls.of_run("r1")] == [("a", 1), ("c", 2)]
    assert await calls.of_run("") == []
    assert [each.id for each in await calls.of_agent("scout", 2)] == ["d", "c"]


async def test_what_has_no_room_is_refused_and_nothing_is_reserved(calls: SqlCalls, store: Store) -> None:
    await calls.open(call("a", reserved=3 * USD), [AGENT, MODEL])
    with pytest.raises(BudgetSpent, match="model:default") as caught:
        await calls.open(call("b", reserved=2 * USD), [AGENT, MODEL])
    assert "of 4 USD 1 are left" in caught.value.why
    assert await spent(store, "agent:scout") == (0, 3 * USD)
    assert [each.id for each in await calls.open_calls()] == ["a"]


async def test_what_a_turn_was_refused_for_want_of_money_is_on_record_once_in_each_of_its_lives(
    calls: SqlCalls, store: Store
) -> None:
    for id, life in (("a", "1"), ("b", "1"), ("c", "2")):
        with pytest.raises(BudgetSpent):
            await calls.open(call(id, run="r1", life=life, reserved=5 * USD), [AGENT, MODEL])
    with pytest.raises(BudgetSpent):
        await calls.open(call("d", reserved=5 * USD), [MODEL])
    found = await calls.of_run("r1")
    assert [(each.id, each.number, each.state, each.status) for each in found] == [
        ("a", 1, "refused", 402), ("c", 2, "refused", 402),
    ]  # fmt: skip
    assert found[0].budgets == f"{day_of(await store.now_ms())} model:default"
    assert (found[0].reserved, found[0].cost) == (5 * USD, 0)
    assert await calls.of_agent("scout") == found[::-1]
    assert await calls.usage("2000-01-01") == await calls.open_calls() == []


async def test_whether_a_turn_has_lived_before(calls: SqlCalls) -> None:
    first, second = Turn(run="r1", life="1.2"), Turn(run="r1", life="1.4")
    assert not await calls.lived(first)
    await calls.open(call("a", run="r1", life="1.2"), [])
    await calls.open(call("b", run="r2", life="1.9"), [])
    assert not await calls.lived(first)
    assert await calls.lived(second)
    assert not await calls.lived(Turn(run="r3", life="1.4"))
    await calls.open(call("c"), [])
    assert not await calls.lived(Turn(life="2")), "what belongs to no turn is no life of one"


async def test_what_an_earlier_life_asked_instead_is_found(calls: SqlCalls) -> None:
    for id, lane in (("a", "main"), ("b", "title")):
        was = await calls.open(call(id, run="r1", life="1", lane=lane, key=id, outline="{}"), [])
        assert await calls.expected(was) is None
        await calls.end(done(was), Answer(head=b"{}", body=b"x"))
    asks = call("c", run="r1", life="2", lane="main", key="c")
    found = await calls.expected(asks)
    assert found is not None
    assert (found.id, found.outline) == ("a", "{}")
    assert await calls.beside(asks) == [], "an earlier life knows the conversation"
    other = msgspec.structs.replace(asks, lane="other")
    assert await calls.expected(other) is None
    assert [each.id for each in await calls.beside(other)] == ["a", "b"]
    assert await calls.beside(msgspec.structs.replace(other, key="b")) == [], "and that call"
    assert await calls.replay(call("d", run="r1", life="2", lane="title", key="b")) is not None
    assert [each.id for each in await calls.beside(other)] == ["a"], "that one it has held"
    await calls.open(other, [])
    assert await calls.beside(msgspec.structs.replace(other, id="e", lane="third")) == [], "it is on its way"


async def test_a_call_may_reserve_more_where_there_is_room(calls: SqlCalls, store: Store) -> None:
    opened = await calls.open(call("a", run="r1", life="1"), [AGENT, MODEL])
    larger = msgspec.structs.replace(opened, reserved=3 * USD)
    await calls.more(larger, [MODEL, AGENT], "no")
    assert [await spent(store, each.scope) for each in (AGENT, MODEL)] == [(0, 3 * USD), (0, 3 * USD)]
    assert await calls.open_calls() == [larger]
    with pytest.raises(BudgetSpent, match="model:default"):
        await calls.more(msgspec.structs.replace(opened, reserved=5 * USD), [MODEL, AGENT], "b")
    assert [await spent(store, each.scope) for each in (AGENT, MODEL)] == [(0, 3 * USD), (0, 3 * USD)]
    refused = (await calls.of_run("r1"))[-1]
    assert (refused.id, refused.state, refused.reserved, refused.life) == ("b", "refused", 5 * USD, "1")
    assert await calls.end(done(opened))
    await calls.more(larger, [MODEL, AGENT], "no")
    assert [await spent(store, each.scope) for each in (AGENT, MODEL)] == [(USD // 2, 0), (USD // 2, 0)]


async def test_calls_that_reserve_more_at_once_cannot_overshoot(
    calls: SqlCalls, open_store: OpenStore, store: Store
) -> None:
    other = open_store()
    assert isinstance(other, SqlStore)
    await other.start()
    try:
        opened = [await calls.open(call(f"c{number}", reserved=USD // 10), [MODEL, AGENT]) for number in range(20)]
        asked = [
            (calls if number % 2 else other.calls).more(
                msgspec.structs.replace(each, reserved=USD), [MODEL, AGENT], f"r{number}"
            )
            for number, each in enumerate(opened)
        ]
        results = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        await other.stop()
    assert [str(each) for each in results if not isinstance(each, BudgetSpent | None)] == []
    given = sum(each is None for each in results)
    assert given == 2, "of four dollars two were taken"
    assert await spent(store, "model:default") == (0, given * USD + (20 - given) * USD // 10)


async def test_a_refusal_is_no_other_way_that_a_turn_has_gone(calls: SqlCalls) -> None:
    turn = {"run": "r1", "lane": "main", "key": "k"}
    was = await calls.open(call("a", life="1", **turn), [MODEL])
    await calls.end(done(was), Answer(head=b"{}", body=b"x"))
    with pytest.raises(BudgetSpent):
        await calls.open(call("b", life="2", reserved=5 * USD, **turn | {"key": "other"}), [MODEL])
    again = await calls.replay(call("c", life="2", **turn))
    assert again is not None
    assert again.id == "a"


async def test_concurrent_calls_cannot_overshoot(calls: SqlCalls, open_store: OpenStore, store: Store) -> None:
    other = open_store()
    assert isinstance(other, SqlStore)
    await other.start()
    try:
        asked = [
            (calls if number % 2 else other.calls).open(
                call(f"c{number}"), [MODEL, AGENT] if number % 3 else [AGENT, MODEL]
            )
            for number in range(40)
        ]
        results = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        await other.stop()
    refused = [each for each in results if isinstance(each, BudgetSpent)]
    assert (len(results) - len(refused), len(refused)) == (4, 36)
    assert await spent(store, "model:default") == (0, 4 * USD)


async def test_a_budget_is_of_one_day(calls: SqlCalls, time: Time) -> None:
    opened = await calls.open(call("a", reserved=4 * USD), [MODEL])
    await time.advance(DAY)
    assert (await calls.open(call("b", reserved=4 * USD), [MODEL])).state == "open"
    assert await calls.end(done(opened, cost=3 * USD))
    found = {each.day: (each.spent, each.reserved) for each in await calls.spending(day_of(opened.started_at))}
    assert found == {day_of(opened.started_at): (3 * USD, 0)}


async def test_it_is_told_once_that_most_is_spent_and_once_that_all_is(calls: SqlCalls, store: Store) -> None:
    for number in range(9):
        await calls.end(done(await calls.open(call(f"c{number}"), [AGENT]), cost=USD))
    await calls.open(call("last"), [AGENT])
    for _ in range(2):
        with pytest.raises(BudgetSpent):
            await calls.open(call("more"), [AGENT])
    told = [(each.name, each.data["scope"]) for each in await store.events() if each.name.startswith("budget.")]
    assert told == [("budget.warned", "agent:scout"), ("budget.spent", "agent:scout")]


async def test_usage_adds_up_by_day_agent_route_and_model(calls: SqlCalls, store: Store) -> None:
    for id, options in (("a", {}), ("b", {"agent": "poet"}), ("c", {})):
        await calls.end(done(await calls.open(call(id, **options), []), cached=7, written=1))
    await calls.end(done(await calls.open(call("d"), []), state="failed", input=0, output=0, cost=0))
    today = day_of(await store.now_ms())
    found = {(each.agent, each.model): each for each in await calls.usage(today)}
    assert {key: (each.calls, each.failed) for key, each in found.items()} == {
        ("scout", "m"): (3, 1), ("poet", "m"): (1, 0),
    }  # fmt: skip
    scout = found["scout", "m"]
    assert (scout.input, scout.output, scout.cached, scout.written, scout.cost) == (200, 40, 14, 2, USD)
    assert await calls.usage("9999-01-01") == []


async def life(store: Store, number: int) -> Turn:
    """The turn of a message to ``a``, under another worker each time; the one before has died."""
    assert isinstance(store, SqlStore)
    if number > 1:
        await store.reap(f"w{number - 1}", proven=True, poison_after=99)
    await join(store, f"w{number}")
    [_] = await claim(store, f"w{number}")
    return await store.calls.turn("a")


async def test_the_one_running_turn_of_an_agent_is_found_and_its_lives_are_told_apart(store: Store) -> None:
    assert isinstance(store, SqlStore)
    assert await store.calls.turn("a") == Turn()
    sent = message()
    await store.enqueue([sent])
    one, two = await life(store, 1), await life(store, 2)
    assert one.run == two.run == sent.id
    assert one.life != two.life
    [run] = await store.runs(agent="a")
    await store.append(fence(run), [step(1)])
    assert (await store.calls.turn("a")).life not in (one.life, two.life)


def asks(id: str, turn: Turn, key: str, lane: str = "main") -> ModelCall:
    return call(id, run=turn.run, life=turn.life, lane=lane, key=key)


async def answered(calls: SqlCalls, made: ModelCall, body: bytes = b"said") -> None:
    await calls.end(done(await calls.open(made, []), cost=7), Answer(head=b"{}", body=body))


async def test_a_later_life_is_given_the_answers_of_the_one_before_each_once(store: Store, calls: SqlCalls) -> None:
    await store.enqueue([message()])
    one = await life(store, 1)
    for id, key in (("c1", "hello"), ("c2", "again"), ("c3", "again")):
        await answered(calls, asks(id, one, key), id.encode())
    assert await calls.replay(asks("same", one, "hello")) is None, "in one life a question is asked twice"
    two = await life(store, 2)
    given = [await calls.replay(asks(f"d{number}", two, key)) for number, key in enumerate(["hello", "again", "again"])]
    assert [each.id for each in given if each is not None] == ["c1", "c2", "c3"]
    assert await calls.replay(asks("d9", two, "hello")) is None, "each answers one call"
    answer = await calls.answer("c2")
    assert answer is not None
    assert answer.body == b"c2"
    last = (await calls.of_run(two.run))[-1]
    assert (last.state, last.source, last.saved, last.cost, last.life) == ("replayed", "c3", 7, 0, two.life)
    three = await life(store, 3)
    assert await calls.replay(asks("e1", three, "hello")) is not None, "a third life has them all again"


async def test_from_where_a_conversation_goes_another_way_it_is_live(store: Store, calls: SqlCalls) -> None:
    await store.enqueue([message()])
    one = await life(store, 1)
    for id, key, lane in (("c1", "a", "main"), ("c2", "b", "main"), ("c3", "title", "other")):
        await answered(calls, asks(id, one, key, lane))
    two = await life(store, 2)
    assert await calls.replay(asks("d1", two, "new")) is None
    await answered(calls, asks("d1", two, "new"))
    assert await calls.replay(asks("d2", two, "b")) is None
    assert await calls.replay(asks("d3", two, "title", "other")) is not None, "another conversation is not disturbed"


async def test_only_what_was_answered_is_given(store: Store, calls: SqlCalls) -> None:
    await store.enqueue([message()])
    one = await life(store, 1)
    await calls.end(done(await calls.open(asks("c1", one, "k"), []), state="failed"), Answer(head=b"{}", body=b"x"))
    await calls.end(done(await calls.open(asks("c2", one, "k"), [])))
    await calls.open(asks("c3", one, "k"), [])
    two = await life(store, 2)
    assert await calls.replay(asks("d1", two, "k")) is None
    other = call("o", run="another", life="9.9", lane="main", key="k")
    assert await calls.replay(other) is None


async def test_retention_takes_old_calls_and_leaves_their_sums(calls: SqlCalls, store: Store, time: Time) -> None:
    await calls.end(done(await calls.open(call("old", run="r1"), [])))
    await time.advance(2 * DAY)
    await calls.end(done(await calls.open(call("new", run="r1"), [])))
    await calls.open(call("open", run="r1"), [])
    await store.forget(DAY)
    assert [each.id for each in await calls.of_run("r1")] == ["new", "open"]
    assert sum(each.calls for each in await calls.usage("2000-01-01")) == 2
