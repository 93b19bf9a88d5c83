"""Every store: calls to tools are written down before and after, and an earlier one answers at most one later one."""

from __future__ import annotations

from typing import Any

import pytest
from conformance import DAY, OpenStore, Time, add

from relit.errors import Conflict, NotFound
from relit.lib.ids import derived_id
from relit.store.base import Store
from relit.store.tools import EARLIER, GAVE_UP, HEARD, UNHEARD_MS, WAITS, ToolCall, ToolCalls, ToolEnd


def call(id: str = "t1", **options: Any) -> ToolCall:
    given = {
        "id": id, "agent": "scout", "run": "r1", "life": "1", "tool": "mail", "effect": "ask", "hash": "h",
        "arguments": b'{"to":"x"}', "gateway": "g1", "seen": 0,
    }  # fmt: skip
    return ToolCall(**(given | options))


@pytest.fixture
async def tools(store: Store) -> ToolCalls:
    return store.tools


async def made(tools: ToolCalls, id: str = "t1", *, heard: int = HEARD, **options: Any) -> ToolCall:
    """A call that was made and has ended."""
    await tools.begin(call(id, **options), 0)
    ended = await tools.end(ToolEnd(id=id, state="done", result=b'{"id":1}'))
    await tools.hear(id, heard)
    return ended


async def test_a_call_is_written_down_before_and_after(tools: ToolCalls) -> None:
    opened, source = await tools.begin(call(effect="native-key", key="k", deadline_at=5), 0)
    assert (opened.state, opened.number, source) == ("open", 1, None)
    assert await tools.get("t1") == opened
    ended = await tools.end(ToolEnd(id="t1", state="done", result=b"ok", failed=True, why="ü"))
    assert (ended.state, ended.result, ended.failed, ended.why) == ("done", b"ok", True, "ü")
    assert ended.ended_at is not None
    assert await tools.of_run("r1") == [ended]
    assert await tools.of_agent("scout") == [ended]


async def test_a_further_attempt_says_until_when_it_may_have_an_effect(tools: ToolCalls) -> None:
    opened, _ = await tools.begin(call(deadline_at=5), 0)
    await tools.again("t1", 9)
    found = await tools.get("t1")
    assert (found.state, found.deadline_at, found.gateway) == ("open", 9, opened.gateway)
    ended = await tools.end(ToolEnd(id="t1", state="done", result=b"ok"))
    await tools.again("t1", 99)
    await tools.again("unknown", 99)
    assert await tools.get("t1") == ended


async def test_a_call_of_a_turn_has_the_same_key_whenever_the_turn_is_lived_again(tools: ToolCalls) -> None:
    def key(before: int, run: str = "r1") -> str:
        return f"relit-{derived_id(run, 'mail', 'h', str(before))}"

    first, _ = await tools.begin(call(key="k"), 0)
    second, _ = await tools.begin(call("t2", key="k"), 1)
    other, _ = await tools.begin(call("t3", key="k", run="r2"), 0)
    assert [each.key for each in (first, second, other)] == [key(0), key(1), key(0, "r2")]
    await tools.end(ToolEnd(id="t1", state="done", result=b"1"))
    replayed, source = await tools.begin(call("t4", key="k", life="2"), 0)
    assert (replayed.state, source and source.id) == ("replayed", "t1")
    third, _ = await tools.begin(call("t5", key="k", life="2"), 2)
    assert third.key == key(2), "what was answered from the record does not count"
    assert (await tools.begin(call("t6", key="k", run="", life=""), 0))[0].key == "k", "of no turn"


@pytest.mark.parametrize(
    ("effect", "state"),
    [("ask", "in_doubt"), ("lookup", "in_doubt"), ("native-key", "open"), ("natural-key", "open"), ("read", "open")],
)
async def test_after_the_store_came_back_from_a_copy_a_call_may_have_been_made_before(
    store: Store, effect: Any, state: str
) -> None:
    await add(store, id="r1")
    assert (await store.tools.begin(call("t0", effect=effect, hash="before"), 0))[0].state == "open"
    await store.recovered()
    made, source = await store.tools.begin(call(effect=effect), 0)
    assert (made.state, source) == (state, None)
    assert ("copy" in made.why) == (state == "in_doubt")
    held, _ = await store.tools.begin(call("t2", effect=effect, hash="held", state="held"), 0)
    assert held.state == "held", "a person decides anyway"
    await add(store, id="r2")
    assert (await store.tools.begin(call("t3", effect=effect, run="r2"), 0))[0].state == "open", "it came later"


async def test_a_call_ends_once(tools: ToolCalls) -> None:
    await made(tools)
    again = await tools.end(ToolEnd(id="t1", state="failed"))
    assert (again.state, again.result) == ("done", b'{"id":1}')
    with pytest.raises(NotFound):
        await tools.end(ToolEnd(id="t9", state="done"))
    with pytest.raises(NotFound):
        await tools.get("t9")


async def test_another_life_of_a_turn_gets_the_result_of_the_one_before_once(tools: ToolCalls) -> None:
    await made(tools)
    replayed, source = await tools.begin(call("t2", life="2"), 0)
    assert (replayed.state, replayed.source) == ("replayed", "t1")
    assert source is not None
    assert source.result == b'{"id":1}'
    third, source = await tools.begin(call("t3", life="2"), 0)
    assert (third.state, source) == ("open", None)


async def test_each_life_gets_it(tools: ToolCalls) -> None:
    await made(tools)
    for life in ("2", "3", "4"):
        call_, source = await tools.begin(call(f"t{life}", life=life), 0)
        await tools.hear(call_.id, HEARD)
        assert source is not None
        assert source.id == "t1"


@pytest.mark.parametrize(
    "other", [{"run": "r2"}, {"agent": "other"}, {"tool": "post"}, {"hash": "other"}, {"life": "1"}, {"run": ""}]
)
async def test_what_is_another_call_is_made(tools: ToolCalls, other: dict[str, Any]) -> None:
    await made(tools)
    opened, source = await tools.begin(call("t2", **({"life": "2"} | other)), 0)
    assert (opened.state, source) == ("open", None)


async def test_a_result_that_stands_in_the_prompt_answers_no_further_call(tools: ToolCalls) -> None:
    await made(tools, "t1", seen=0)
    await made(tools, "t2", seen=1)
    _, source = await tools.begin(call("t3", life="2"), 2)
    assert source is None
    _, source = await tools.begin(call("t4", life="2"), 1)
    assert source is not None
    assert source.id == "t2"


async def test_where_nobody_knows_what_the_prompt_held_it_answers(tools: ToolCalls) -> None:
    await made(tools, seen=None)
    _, source = await tools.begin(call("t2", life="2"), 7)
    assert source is not None


async def test_equal_calls_answer_in_their_order(tools: ToolCalls) -> None:
    await made(tools, "t1", life="1")
    await made(tools, "t2", life="1")
    found = []
    for id in ("t3", "t4", "t5"):
        _, source = await tools.begin(call(id, life="2"), 0)
        found.append(source.id if source else None)
    assert found == ["t1", "t2", None]


async def test_what_means_the_same_answers_after_what_is_equal(tools: ToolCalls) -> None:
    await made(tools, "t1", hash="a", same="s")
    await made(tools, "t2", hash="b", same="s")
    _, source = await tools.begin(call("t3", hash="b", same="s", life="2"), 0)
    assert source is not None
    assert source.id == "t2"
    _, source = await tools.begin(call("t4", hash="c", same="s", life="2"), 5)
    assert source is not None
    assert source.id == "t1"
    _, source = await tools.begin(call("t5", hash="c", same="", life="2"), 0)
    assert source is None


async def test_a_caller_that_went_away_may_ask_again_in_the_same_life(tools: ToolCalls) -> None:
    await made(tools, heard=GAVE_UP)
    replayed, source = await tools.begin(call("t2"), 0)
    assert source is not None
    await tools.hear(replayed.id, GAVE_UP)
    third, source = await tools.begin(call("t3"), 0)
    assert source is not None
    await tools.hear(third.id, HEARD)
    _, source = await tools.begin(call("t4"), 0)
    assert source is None


@pytest.mark.parametrize("effect", ["read", "natural-key"])
async def test_what_may_be_done_twice_is_done_anew_where_a_life_goes_its_own_way(tools: ToolCalls, effect: Any) -> None:
    await made(tools, effect=effect)
    assert (await tools.begin(call("t2", effect=effect, life="2"), 0, relives=False))[1] is None
    assert (await tools.begin(call("t3", effect=effect, life="3"), 0))[1] is not None
    await made(tools, "t4", effect=effect, hash="slow", heard=GAVE_UP)
    assert (await tools.begin(call("t5", effect=effect, hash="slow"), 0, relives=False))[1] is not None, "it waits on"
    other = await tools.begin(call("t6", effect=effect, hash="slow", life="2"), 0, relives=False)
    assert (other[1] is None) == (effect == "read"), "a restore of a file kills whoever asks for it"


async def test_who_goes_its_own_way_is_told_of_an_earlier_life_and_so_is_who_lives_that_again(tools: ToolCalls) -> None:
    await made(tools)
    told, _ = await tools.begin(call("t2", life="2"), 0, relives=False)
    again, _ = await tools.begin(call("t3", life="3"), 0)
    assert (told.why, again.why) == (EARLIER, EARLIER)
    await made(tools, "t4", hash="b")
    first, _ = await tools.begin(call("t5", hash="b", life="2"), 0)
    assert first.why == ""


async def test_what_certainly_did_not_happen_is_made(tools: ToolCalls) -> None:
    await tools.begin(call(), 0)
    await tools.end(ToolEnd(id="t1", state="failed", why="no connection"))
    opened, source = await tools.begin(call("t2", life="2"), 0)
    assert (opened.state, source) == ("open", None)


async def test_a_held_call_waits_for_a_word(tools: ToolCalls, store: Store) -> None:
    held, _ = await tools.begin(call(state="held", expires_at=2**50), 0)
    assert await tools.waiting() == [held]
    _, source = await tools.begin(call("t2"), 0)
    assert source == held
    approved = await tools.decide("t1", True, "ann")
    assert (approved.state, approved.decided_by) == ("approved", "ann")
    with pytest.raises(Conflict, match="nobody's word"):
        await tools.decide("t1", False, "bob")
    assert await tools.waiting(["approved"]) == [approved]
    sent = await tools.send(approved, "g2", 99)
    assert sent is not None
    assert (sent.state, sent.gateway, sent.deadline_at) == ("open", "g2", 99)
    assert await tools.send(approved, "g2", 99) is None
    names = [each.name for each in await store.events()]
    assert names == ["tool.held", "tool.approved"]


async def test_outside_of_turns_only_what_is_undecided_answers(tools: ToolCalls) -> None:
    await made(tools, run="", life="")
    held, source = await tools.begin(call("t2", run="", life="", state="held"), 0)
    assert (held.state, source) == ("held", None)
    _, source = await tools.begin(call("t3", run="", life="", state="held"), 0)
    assert source is not None
    assert source.id == "t2"


async def test_outside_of_turns_a_call_that_nobody_heard_of_answers_the_same_one_once(
    tools: ToolCalls, time: Time
) -> None:
    """It goes on, or its caller died and asks again: it is not made a second time."""
    await tools.begin(call(run="", life=""), 0)
    _, source = await tools.begin(call("t2", run="", life=""), 0)
    assert source is None, "two callers want two"
    await tools.hear("t1", GAVE_UP, owed=True)
    _, source = await tools.begin(call("t3", run="", life=""), 0)
    assert source is not None
    assert (source.id, source.state) == ("t1", "open")
    await tools.hear("t3", GAVE_UP)
    await tools.end(ToolEnd(id="t1", state="done", result=b"1"))
    _, source = await tools.begin(call("t4", run="", life=""), 0)
    assert source is not None
    assert source.id == "t1"
    await tools.hear("t4", HEARD)
    _, source = await tools.begin(call("t5", run="", life=""), 0)
    assert source is None, "it was heard"
    await tools.hear("t5", GAVE_UP)
    await tools.end(ToolEnd(id="t5", state="done", result=b"5"))
    await time.advance(UNHEARD_MS + 1)
    _, source = await tools.begin(call("t6", run="", life=""), 0)
    assert source is None, "long ago: tomorrow's mail may say the same"


@pytest.mark.parametrize(("effect", "again"), [("read", None), ("natural-key", None), ("lookup", "t1"), ("ask", "t1")])
async def test_outside_of_turns_what_may_be_done_again_is(tools: ToolCalls, effect: str, again: str | None) -> None:
    """What was read is old by now, and what was set may be another since."""
    await made(tools, run="", life="", effect=effect, heard=GAVE_UP)
    _, source = await tools.begin(call("t2", run="", life="", effect=effect), 0)
    assert (source.id if source else None) == again


async def test_a_denied_call_is_never_sent(tools: ToolCalls) -> None:
    await tools.begin(call(state="held"), 0)
    denied = await tools.decide("t1", False, "ann", "not today")
    assert (denied.state, denied.failed, denied.why, denied.final) == ("denied", True, "not today", True)
    assert await tools.send(denied, "g1", 0) is None
    with pytest.raises(NotFound):
        await tools.decide("t9", True, "ann")


async def test_what_is_held_too_long_expires(tools: ToolCalls, store: Store, time: Time) -> None:
    now = await store.now_ms()
    await tools.begin(call(state="held", expires_at=now + 1000), 0)
    await tools.begin(call("t2", state="held", hash="h2", expires_at=now + DAY), 0)
    assert await tools.expire() == []
    await time.advance(2000)
    with pytest.raises(Conflict, match="too long"):
        await tools.decide("t1", True, "ann")
    assert [each.id for each in await tools.expire()] == ["t1"]
    assert (await tools.get("t1")).state == "expired"
    assert [each.id for each in await tools.waiting()] == ["t2"]


async def test_a_doubt_is_settled_by_a_person(tools: ToolCalls, store: Store) -> None:
    for id, hash in (("t1", "a"), ("t2", "b")):
        await tools.begin(call(id, hash=hash), 0)
        await tools.end(ToolEnd(id=id, state="in_doubt", why="its gateway died"))
    assert [each.id for each in await tools.waiting(["in_doubt"])] == ["t1", "t2"]
    done = await tools.resolve("t1", "ann", b'"sent"')
    assert (done.state, done.result) == ("done", b'"sent"')
    again = await tools.resolve("t2", "ann", None)
    assert again.state == "approved"
    with pytest.raises(Conflict, match="not in doubt"):
        await tools.resolve("t1", "ann", None)
    assert [each.name for each in await store.events()] == ["tool.in_doubt"] * 2 + ["tool.resolved"] * 2


async def test_another_gateway_takes_what_a_dead_one_left_open(tools: ToolCalls) -> None:
    opened, _ = await tools.begin(call(), 0)
    assert await tools.waiting(["open"]) == [opened]
    assert await tools.send(opened, "g1", 7) is None, "its own"
    taken = await tools.send(opened, "g2", 7)
    assert taken is not None
    assert taken.gateway == "g2"


@pytest.mark.parametrize("state", ["approved", "in_doubt", "open"])
async def test_of_two_gateways_that_saw_a_call_one_takes_it(tools: ToolCalls, state: str) -> None:
    seen, _ = await tools.begin(call(effect="lookup", state="held" if state == "approved" else "open"), 0)
    if state == "approved":
        seen = await tools.decide("t1", True, "ann")
    elif state == "in_doubt":
        seen = await tools.end(ToolEnd(id="t1", state="in_doubt"))
    taken = await tools.send(seen, "g2", 7)
    assert taken is not None
    assert await tools.send(seen, "g3", 8) is None
    assert await tools.get("t1") == taken


async def test_who_saw_a_doubt_does_not_take_it_after_a_further_attempt(tools: ToolCalls, time: Time) -> None:
    """It would look for that attempt too early."""
    await tools.begin(call(effect="lookup", deadline_at=5), 0)
    seen = await tools.end(ToolEnd(id="t1", state="in_doubt"))
    await time.advance(1000)
    assert await tools.send(seen, "g1", 2000) is not None
    again = await tools.end(ToolEnd(id="t1", state="in_doubt"))
    assert await tools.send(seen, "g2", 9) is None
    assert await tools.send(again, "g2", 9) is not None


async def test_an_agent_is_owed_the_end_of_what_it_did_not_wait_for(tools: ToolCalls) -> None:
    await tools.begin(call(state="held"), 0)
    await tools.hear("t1", GAVE_UP, owed=True)
    assert await tools.owing() == []
    await tools.send(await tools.decide("t1", True, "ann"), "g1", 0)
    assert await tools.owing() == []
    await tools.end(ToolEnd(id="t1", state="done", result=b"1"))
    [owed] = await tools.owing()
    assert owed.owed
    await tools.hear("t1", HEARD)
    assert await tools.owing() == []


async def test_calls_are_found_by_a_part_of_their_id(tools: ToolCalls) -> None:
    await tools.begin(call("tool-one"), 0)
    assert await tools.find("tool-") == await tools.find("-one") == ["tool-one"]
    assert await tools.find("%") == []


async def test_calls_are_there_for_others_and_are_forgotten_in_time(
    tools: ToolCalls, store: Store, open_store: OpenStore, time: Time
) -> None:
    await made(tools)
    await tools.begin(call("t2", hash="h2", state="held"), 0)
    other = open_store()
    await other.start()
    assert [each.id for each in await other.tools.of_run("r1")] == ["t1", "t2"]
    await other.stop()
    await time.advance(2 * DAY)
    await store.forget(DAY)
    assert [each.id for each in await tools.of_run("r1")] == ["t2"]


async def test_callers_of_a_dead_gateway_wait_no_more(tools: ToolCalls) -> None:
    await made(tools, "t1", heard=WAITS)
    await made(tools, "t2", hash="b")
    assert await tools.gateways() == ["g1"]
    await tools.abandon("g1")
    assert await tools.gateways() == []
    assert [each.heard for each in await tools.of_run("r1")] == [GAVE_UP, HEARD]


async def test_notes_are_an_agents_own(tools: ToolCalls) -> None:
    await tools.note("scout", "a", "one")
    await tools.note("scout", "a", "two")
    await tools.note("scout", "b", "three")
    await tools.note("other", "a", "four")
    assert [(each.name, each.text) for each in await tools.notes("scout")] == [("a", "two"), ("b", "three")]
    await tools.note("scout", "a", "")
    assert [each.name for each in await tools.notes("scout")] == ["b"]
