"""Calls to tools: looked at, allowed or held, written down, made once, answered from the record, told of later."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from gateway_house import TOKEN
from tools_house import House, Scripted, house, left_open, mail, until

from relit.gateway.tools.base import NotSent, Outcome, Tool, Unsure, text
from relit.gateway.tools.shelf import Grant
from relit.store.tools import GAVE_UP, HEARD, ToolCall
from relit.store.values import NewRun, Turn


async def state(home: House, number: int = 0) -> ToolCall:
    return (await home.store.tools.of_run("r1"))[number]


async def test_a_call_is_made_and_written_down(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        assert await home.call(to="ann") == ("sent to ann", False)
        call = await state(home)
        assert (call.state, call.tool, call.agent, call.run, call.failed) == ("done", "mail", "scout", "r1", False)
        assert call.arguments == b'{"to":"ann"}'
        assert home.source.made == [("mail", call.key)]
        assert call.key.startswith("relit-")


async def test_arguments_that_do_not_fit_are_told_and_nothing_is_made(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        words, failed = await home.call(to=3, extra=1)
        assert failed
        assert "to: 3 is not of type" in words
        assert "'extra' was unexpected" in words
        assert home.source.made == []
        assert await home.store.tools.of_run("r1") == []


async def test_who_is_not_granted_a_tool_does_not_see_it_and_the_attempt_is_on_record(tmp_path: Path) -> None:
    grants = {"scout": Grant(("post_*",)), "other": Grant(("*",))}
    async with house(tmp_path, Scripted([mail()]), grants=grants) as home:
        listed = await home.mcp("tools/list")
        assert [each["name"] for each in listed["result"]["tools"]] == ["read_result"]
        assert await home.call(to="ann") == ("Unknown tool: mail", True)
        assert home.source.made == []
        assert (await state(home)).state == "denied"
        [event] = await home.store.events(names=["tool.denied"])
        assert (event.agent, event.data["tool"]) == ("scout", "mail")


async def test_a_policy_forbids(tmp_path: Path) -> None:
    grants = {"scout": Grant(("*",), {"ma*": "deny"})}
    async with house(tmp_path, Scripted([mail()]), grants=grants) as home:
        words, failed = await home.call(to="ann")
        assert failed
        assert "a policy forbids it" in words
        assert home.source.made == []


async def test_a_clone_uses_no_tools(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        assert (await home.mcp("tools/list", token="clone"))["result"]["tools"] == []
        answer = await home.mcp("tools/call", token="clone", name="mail", arguments={"to": "x"})
        assert "may use no tools" in answer["error"]["message"]
        assert home.source.made == []


async def test_another_life_of_the_turn_gets_the_result_and_nothing_is_made_again(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        await home.call(to="ann")
        home.turns.now = Turn(run="r1", life="2")
        said, failed = await home.call(to="ann")
        assert (said[-26:], failed) == ("What came of it:]sent to ann"[-26:], False)
        assert len(home.source.made) == 1
        assert await home.call(to="ann") == ("sent to ann", False)  # it wants it a second time
        assert len(home.source.made) == 2
        assert [each.state for each in await home.store.tools.of_run("r1")] == ["done", "replayed", "done"]


async def test_one_that_lives_its_turn_again_gets_it_as_it_was(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        await home.call(to="ann")
        home.turns.now = Turn(run="r1", life="2")
        assert home.desk.saw("scout", home.turns.now, "", prompt())
        home.desk.answered("scout", home.turns.now, replayed=True)
        assert await home.call(to="ann") == ("sent to ann", False)
        assert len(home.source.made) == 1


async def test_the_same_life_may_make_a_call_as_often_as_it_likes(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        await home.call(to="ann")
        await home.call(to="ann")
        assert len(home.source.made) == 2


def prompt(*texts: str) -> bytes:
    """A request to a model in whose prompt calls of ``mail`` stand with their results."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
    for number, words in enumerate(texts):
        call = {"id": f"c{number}", "function": {"name": "mcp__relit__mail", "arguments": f'{{"to": "{words}"}}'}}
        turns += [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": f"c{number}"}]
    return msgspec.json.encode({"model": "m", "messages": turns, "tools": [{"type": "function"}]})


async def test_what_stands_in_the_prompt_is_not_answered_from_the_record(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        home.desk.saw("scout", home.turns.now, "", prompt())
        await home.call(to="ann")
        home.turns.now = Turn(run="r1", life="2")
        home.desk.saw("scout", home.turns.now, "", prompt("ann"))
        await home.call(to="ann")
        assert len(home.source.made) == 2
        home.turns.now = Turn(run="r1", life="3")
        home.desk.saw("scout", home.turns.now, "", prompt())
        await home.call(to="ann")
        assert len(home.source.made) == 2


async def test_what_means_the_same_is_not_done_twice(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail(same=("to",))])) as home:
        await home.call(to="Ann ", text="Hello.")
        home.turns.now = Turn(run="r1", life="2")
        words, failed = await home.call(to="ann", text="Hi!")
        assert len(home.source.made) == 1
        assert not failed
        assert words.startswith("[relit: already done earlier in this turn, and not again: mail with ")
        assert '"text":"Hello."' in words
        assert words.endswith("sent to Ann ")
        assert await home.call(to="Ann ", text="Hello.") == ("sent to Ann ", False), "its own words"


@pytest.mark.parametrize(
    ("effect", "sent", "end"),
    [("read", 3, "failed"), ("natural-key", 3, "in_doubt"), ("native-key", 3, "in_doubt"), ("ask", 1, "in_doubt")],
)
async def test_an_effect_says_whether_a_call_in_doubt_is_made_again(
    tmp_path: Path, effect: Any, sent: int, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relit.gateway.tools.settling.FIRST_S", 0.01)
    monkeypatch.setattr("relit.gateway.tools.desk.LOOK_S", 0.01)
    source = Scripted([mail(effect=effect)], lambda call, arguments: Unsure("HTTP status 500"))
    async with house(tmp_path, source) as home:
        words, _ = await home.call(to="ann")
        await asyncio.sleep(0.2)
        assert len(home.source.made) == sent, "and not again at once"
        assert len({key for _, key in home.source.made}) == 1
        call = await state(home)
        assert (call.state, call.why) == (end, "HTTP status 500")
        assert ("nobody knows" in words) == (end == "in_doubt")


async def test_a_look_up_settles_a_doubt(tmp_path: Path) -> None:
    source = Scripted([mail(effect="lookup", timeout=0.2)], lambda call, arguments: Unsure("cut off"))
    source.found = lambda call: text("it is there") if len(source.made) == 2 else None
    async with house(tmp_path, source) as home:
        assert await home.call(to="ann") == ("it is there", False)
        assert (len(source.made), source.looked) == (2, 2)


async def recovered(home: House) -> None:
    """The agent's turn came back from a copy of the store, which may be older than what it did."""
    await home.store.enqueue([NewRun(id="r1", agent="scout", workflow="message", input=b"")])
    await home.store.recovered()


async def test_after_a_recovery_nothing_is_made_that_may_have_been_made_before(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail(effect="ask")])) as home:
        await recovered(home)
        words, failed = await home.call(to="ann")
        assert failed or "nobody knows" in words
        assert home.source.made == []
        assert (await state(home)).state == "in_doubt"


async def test_after_a_recovery_it_is_looked_whether_a_call_was_made(tmp_path: Path) -> None:
    source = Scripted([mail(effect="lookup", timeout=0.2)])
    source.found = lambda call: text("it is there")
    async with house(tmp_path, source) as home:
        await recovered(home)
        assert await home.call(to="ann") == ("it is there", False)
        assert (source.made, source.looked) == ([], 1)


async def test_what_certainly_did_not_happen_is_tried_again_and_then_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relit.gateway.tools.settling.FIRST_S", 0.01)
    source = Scripted([mail()], lambda call, arguments: NotSent("no connection", retry=True))
    async with house(tmp_path, source) as home:
        assert await home.call(to="ann") == ("no connection", True)
        assert len(source.made) == 3
        assert (await state(home)).state == "failed"


async def test_a_result_that_is_too_long_is_had_in_pieces(tmp_path: Path) -> None:
    source = Scripted([mail(most=100)], lambda call, arguments: text("x" * 50_000 + "end"))
    async with house(tmp_path, source) as home:
        words, _ = await home.call(to="ann")
        call = await state(home)
        assert words.startswith("x" * 100 + "\n[relit: 50003 characters in all")
        assert call.id in words
        rest, failed = await home.call("read_result", call=call.id, offset=49_990)
        assert (rest, failed) == ("x" * 10 + "end", False)
        wrong, failed = await home.call("read_result", call="nothing")
        assert failed
        assert "there is no call" in wrong


async def test_nobody_reads_anothers_results(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()]), grants={"scout": Grant(("*",)), "other": Grant(("*",))}) as home:
        await home.call(to="ann")
        asked = {"name": "read_result", "arguments": {"call": (await state(home)).id}}
        answer = await home.mcp("tools/call", token="other-token", **asked)
        assert answer["result"]["isError"]
        assert ("other", "gateway:foreign", "read_result: a call of another agent's") in await home.refused()


async def test_a_large_result_lies_beside_the_database(tmp_path: Path) -> None:
    source = Scripted([mail(most=1 << 20)], lambda call, arguments: text("y" * 200_000))
    async with house(tmp_path, source) as home:
        words, _ = await home.call(to="ann")
        assert len(words) == 200_000
        assert (await state(home)).blob is not None


SPELT = {
    "geheimnis": "geheimnis",
    "base64": base64.b64encode(b"user:geheimnis").decode(),
    "in a URL": quote("ä geheimnis/"),
}


@pytest.mark.parametrize("how", SPELT)
async def test_no_result_shows_a_secret_however_it_is_written(tmp_path: Path, how: str) -> None:
    source = Scripted([mail()], lambda call, arguments: text(f"your key is {SPELT[how]}"))
    async with house(tmp_path, source) as home:
        words, _ = await home.call(to="ann")
        assert words.startswith("your key is ")
        assert "[hidden]" in words
        assert SPELT[how] not in words
        assert "geheimnis" not in words
        assert SPELT[how].encode() not in ((await state(home)).result or b"")


async def test_a_secret_among_the_arguments_is_sent_and_not_written_down(tmp_path: Path) -> None:
    got: list[dict[str, Any]] = []

    def act(call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        got.append(arguments)
        return text("sent")

    async with house(tmp_path, Scripted([mail()], act)) as home:
        assert await home.call(to="ann", text="it is geheimnis") == ("sent", False)
        assert got == [{"to": "ann", "text": "it is geheimnis"}]
        assert (await state(home)).arguments == b'{"to":"ann","text":"it is [hidden]"}'


async def test_a_call_with_a_secret_cannot_wait_for_a_person(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail(policy="ask")])) as home:
        words, failed = await home.call(to="geheimnis")
        assert failed
        assert "hold a secret" in words
        assert await home.store.tools.of_run("r1") == []


async def test_a_call_whose_arguments_are_gone_is_not_sent_again(tmp_path: Path) -> None:
    tool = mail(effect="native-key")
    await left_open(tmp_path, tool, to="geheimnis")
    async with house(tmp_path, Scripted([tool]), me="g2") as home:
        assert (await state(home)).state == "in_doubt"
        await home.store.tools.resolve((await state(home)).id, "eve", None)
        while not (ended := await state(home)).final:  # its desk hears of that, and looks around
            await asyncio.sleep(0.01)
        assert (ended.state, home.source.made) == ("failed", [])
        assert "not written down" in ended.why


async def test_an_agent_that_asks_for_too_much_at_once_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relit.gateway.tools.desk.AT_ONCE", 2)
    go = asyncio.Event()

    async def slow(call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        await go.wait()
        return text("done")

    async with house(tmp_path, Scripted([mail()], slow)) as home:
        asking = [asyncio.ensure_future(home.call(to=each)) for each in "ab"]
        await until(lambda: len(home.source.made) == 2)
        words, failed = await home.call(to="c")
        assert failed
        assert "are going on" in words
        go.set()
        assert await asyncio.gather(*asking) == [("done", False)] * 2
        assert await home.call(to="c") == ("done", False)


# --- a person's word ------------------------------------------------------------------------------------------------


async def test_a_call_that_asks_waits_for_a_word_and_is_made_then(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail(policy="ask")])) as home:
        asking = asyncio.ensure_future(home.call(to="ann"))
        while not (held := await home.store.tools.waiting()):
            await asyncio.sleep(0.01)
        assert home.source.made == []
        await home.store.tools.decide(held[0].id, True, "eve")
        assert await asking == ("sent to ann", False)
        assert len(home.source.made) == 1


async def test_a_denied_call_is_told_with_its_reason(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail(policy="ask")])) as home:
        asking = asyncio.ensure_future(home.call(to="ann"))
        while not (held := await home.store.tools.waiting()):
            await asyncio.sleep(0.01)
        await home.store.tools.decide(held[0].id, False, "eve", "not today")
        words, failed = await asking
        assert failed
        assert "not today" in words
        assert home.source.made == []


async def test_who_does_not_wait_is_told_by_a_message_once(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail(policy="ask")]), hold_s=0.1) as home:
        words, failed = await home.call(to="ann")
        assert not failed
        assert "waits for a person's approval" in words
        again, _ = await home.call(to="ann")
        assert again == words  # one call, however often it is asked
        [held] = await home.store.tools.waiting()
        await home.store.tools.decide(held.id, True, "eve")
        await until(lambda: home.told)
        assert f"your call mail ({held.id}) was made" in home.told[0]
        assert "sent to ann" in home.told[0]
        await asyncio.sleep(0.2)
        assert len(home.told) == 1
        assert len(home.source.made) == 1
        assert (await home.store.tools.get(held.id)).heard == HEARD


async def test_a_word_that_comes_while_no_gateway_runs_is_heard_by_the_next(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail(policy="ask")]), hold_s=0.1) as home:
        await home.call(to="ann")
        [held] = await home.store.tools.waiting()
    async with house(tmp_path, Scripted([mail(policy="ask")]), me="g2") as home:
        assert home.source.made == []
        await home.store.tools.decide(held.id, True, "eve")
        await until(lambda: home.told)
        assert len(home.source.made) == 1


async def test_what_nobody_decides_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relit.gateway.tools.desk.LOOK_S", 0.05)
    async with house(tmp_path, Scripted([mail(policy="ask")]), expire_s=0.2) as home:
        words, failed = await home.call(to="ann")
        assert failed
        assert home.source.made == []
        assert (await state(home)).state == "expired", words


@pytest.mark.parametrize("now", [[], [mail(policy="deny")]])
async def test_a_tool_that_is_gone_or_denied_is_not_called_though_it_was_approved(
    tmp_path: Path, now: list[Tool]
) -> None:
    async with house(tmp_path, Scripted([mail(policy="ask")]), hold_s=0.1) as home:
        await home.call(to="ann")
        [held] = await home.store.tools.waiting()
    async with house(tmp_path, Scripted(now), me="g2") as home:
        await home.store.tools.decide(held.id, True, "eve")
        await until(lambda: home.told)
        assert "is not offered to scout any more" in home.told[0]
        assert home.source.made == []


# --- whoever goes away ----------------------------------------------------------------------------------------------


async def test_a_caller_that_goes_away_finds_its_result_when_it_asks_again(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def slow(call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        await go.wait()
        return text("done at last")

    async with house(tmp_path, Scripted([mail()], slow)) as home:
        with contextlib.suppress(httpx.ReadTimeout):
            await impatient(home)
        while (await state(home)).heard != GAVE_UP:
            await asyncio.sleep(0.01)
        asking = asyncio.ensure_future(home.call(to="ann"))
        await asyncio.sleep(0.1)
        go.set()
        assert await asking == ("done at last", False)
        assert len(home.source.made) == 1


async def impatient(home: House) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "mail", "arguments": {"to": "ann"}}}
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=0.3) as http:
        url, headers = f"{home.gateway.url}/mcp", {"Authorization": f"Bearer {TOKEN}"}
        await http.post(url, headers=headers, content=msgspec.json.encode(body))


async def test_a_caller_that_is_gone_at_once_leaves_a_call_that_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        asking = asyncio.ensure_future(home.desk.call("scout", "mail", {"to": "ann"}))
        await asyncio.sleep(0)  # it has begun
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(10):
            while not (found := await home.store.tools.of_run("r1")) or (found[0].state, found[0].heard) != ("done", 2):
                await asyncio.sleep(0.01)
        assert len(home.source.made) == 1


@pytest.mark.parametrize(
    ("effect", "made", "end"),
    [("read", 0, "failed"), ("natural-key", 1, "done"), ("native-key", 1, "done"), ("ask", 0, "in_doubt")],
)
async def test_what_a_dead_gateway_left_open_is_settled_by_the_next(
    tmp_path: Path, effect: Any, made: int, end: str
) -> None:
    key = await left_open(tmp_path, mail(effect=effect))
    async with house(tmp_path, Scripted([mail(effect=effect)]), me="g2") as home:
        await until(lambda: len(home.source.made) == made)
        while (call := await state(home)).state == "open":
            await asyncio.sleep(0.01)
        assert (call.state, call.heard) == (end, GAVE_UP)
        assert {each for _, each in home.source.made} <= {key}
        if end == "done":
            assert await home.call(to="ann") == ("sent to ann", False)
            assert len(home.source.made) == 1


@pytest.mark.parametrize("happened", [True, False])
async def test_a_call_that_can_be_looked_up_is_looked_up_first(tmp_path: Path, happened: bool) -> None:
    tool = mail(effect="lookup", timeout=0.5)
    await left_open(tmp_path, tool)
    source = Scripted([tool], found=lambda call: text("found it") if happened else None)
    async with house(tmp_path, source, me="g2") as home:
        while (call := await state(home)).state == "open":
            await asyncio.sleep(0.01)
        assert call.state == "done"
        assert source.looked == 1
        assert len(source.made) == (0 if happened else 1)


async def test_a_person_settles_a_doubt_and_the_agent_is_told(tmp_path: Path) -> None:
    source = Scripted([mail()], lambda call, arguments: Unsure("cut off"))
    async with house(tmp_path, source) as home:
        await home.call(to="ann")
        await home.store.tools.resolve((await state(home)).id, "eve", b'"it was sent"')
        await until(lambda: home.told)
        assert "it was sent" in home.told[0]
        home.turns.now = Turn(run="r1", life="2")
        assert (await home.call(to="ann"))[0].endswith("What came of it:]it was sent")
        assert len(source.made) == 1
