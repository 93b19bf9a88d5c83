"""Two gateways on one store: each call is made by one of them, and by one that knows the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tools_house import House, Scripted, house, left_open, mail, until

from relit.gateway.tools.base import Outcome, text
from relit.gateway.tools.shelf import Grant
from relit.store.sql.tools import SqlTools
from relit.store.tools import ToolCall, ToolState

OTHERS = {"other": Grant(("*",))}


def nobody(gateway: str) -> bool:
    """Of no other gateway it is known that it is dead."""
    return False


async def only(home: House) -> ToolCall:
    [found] = await home.store.tools.of_run("r1")
    return found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[ToolState]]:
    """Desks look around all the time: how often they did."""
    real = SqlTools.waiting
    made: list[Sequence[ToolState]] = []

    async def waiting(calls: SqlTools, states: Sequence[ToolState] = ("held", "in_doubt")) -> list[ToolCall]:
        found = await real(calls, states)
        made.append(states)
        return found

    monkeypatch.setattr(SqlTools, "waiting", waiting)
    monkeypatch.setattr("relit.gateway.tools.desk.LOOK_S", 0.01)
    return made


async def some(looks: list[Sequence[ToolState]]) -> None:
    """Whoever looks around has seen what is there now, and done something about it."""
    seen = len(looks)
    await until(lambda: len(looks) >= seen + 3)


async def test_a_call_that_two_gateways_see_approved_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relit.gateway.tools.desk.LOOK_S", 0.01)
    real, both = SqlTools.send, asyncio.Barrier(2)
    answers: list[ToolCall | None] = []

    async def send(calls: SqlTools, seen: ToolCall, gateway: str, deadline_at: int) -> ToolCall | None:
        await both.wait()
        answers.append(await real(calls, seen, gateway, deadline_at))
        return answers[-1]

    async def slow(call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        async with asyncio.timeout(10):
            while len(answers) < 2:
                await asyncio.sleep(0.01)
        return text("done")

    monkeypatch.setattr(SqlTools, "send", send)
    source = Scripted([mail(policy="ask")], slow)
    options = {"hold_s": 0.1, "alone": False, "is_dead": nobody}
    async with house(tmp_path, source, **options) as one, house(tmp_path, source, me="g2", **options):
        await one.call(to="ann")
        await one.store.tools.decide((await only(one)).id, True, "eve")
        while not (await only(one)).final:
            await asyncio.sleep(0.01)
        assert len(source.made) == 1
        assert answers.count(None) == 1


async def test_a_gateway_leaves_an_approved_call_to_the_one_that_serves_its_agent(
    tmp_path: Path, looks: list[Sequence[ToolState]]
) -> None:
    async with house(tmp_path, Scripted([mail(policy="ask")]), hold_s=0.1) as home:
        await home.call(to="ann")
    async with house(tmp_path, Scripted([mail()]), me="g2", grants=OTHERS, alone=False, is_dead=nobody) as other:
        approved = await other.store.tools.decide((await only(other)).id, True, "eve")
        await some(looks)
        assert await only(other) == approved
        async with house(tmp_path, Scripted([mail(policy="ask")]), me="g3", alone=False) as home:
            await until(lambda: home.told)
            assert len(home.source.made) == 1
        assert (other.source.made, other.told) == ([], [])


async def test_a_gateway_leaves_what_a_dead_one_began_to_the_next_that_serves_its_agent(
    tmp_path: Path, looks: list[Sequence[ToolState]]
) -> None:
    tool = mail(effect="native-key")
    await left_open(tmp_path, tool)
    async with house(tmp_path, Scripted([tool]), me="g2", grants=OTHERS, alone=False) as other:
        await some(looks)
        assert ((await only(other)).state, (await only(other)).gateway) == ("open", "g1")
        async with house(tmp_path, Scripted([tool]), me="g3", alone=False, is_dead="g1".__eq__) as home:
            while not (ended := await only(home)).final:
                await asyncio.sleep(0.01)
            assert (ended.state, len(home.source.made)) == ("done", 1)


async def test_of_two_gateways_that_inherit_a_call_one_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = mail(effect="native-key")
    await left_open(tmp_path, tool)
    real, take = SqlTools.waiting, SqlTools.send
    saw, go, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def waiting(calls: SqlTools, states: Sequence[ToolState] = ("held", "in_doubt")) -> list[ToolCall]:
        found = await real(calls, states)
        if states == ["open"] and not saw.is_set():
            saw.set()
            await go.wait()
        return found

    async def send(calls: SqlTools, seen: ToolCall, gateway: str, deadline_at: int) -> ToolCall | None:
        found = await take(calls, seen, gateway, deadline_at)
        if gateway == "g2":
            answered.set()
        return found

    async def slow(call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        await asyncio.wait_for(answered.wait(), 10)
        return text("done")

    async def late() -> None:
        async with house(tmp_path, source, me="g2", alone=False, is_dead="g1".__eq__) as home:
            while not (await only(home)).final:
                await asyncio.sleep(0.01)

    monkeypatch.setattr(SqlTools, "waiting", waiting)
    monkeypatch.setattr(SqlTools, "send", send)
    source = Scripted([tool], slow)
    second = asyncio.ensure_future(late())
    await saw.wait()
    async with house(tmp_path, source, me="g3", alone=False, is_dead="g1".__eq__) as home:
        await until(lambda: source.made)
        go.set()
        await second
        assert (await only(home)).gateway == "g3"
        assert len(source.made) == 1
