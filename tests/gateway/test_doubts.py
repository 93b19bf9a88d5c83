"""Calls of which nobody knows whether they happened: what is made again by itself, and what agents are told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tools_house import House, Scripted, house, mail, until

from relit.gateway.tools import settling
from relit.gateway.tools.base import Outcome, Unsure, text
from relit.lib.clock import SystemClock
from relit.store.sql.tools import SqlTools
from relit.store.tools import ToolCall, ToolState
from relit.store.values import Turn

DAY = 86_400_000


class Tomorrow(SystemClock):
    """A day later."""

    def now_ms(self) -> int:
        return super().now_ms() + DAY


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[ToolState]]:
    """Desks look around all the time, and into each doubt every time: how often they did."""
    real = SqlTools.owing
    made: list[Any] = []

    async def owing(calls: SqlTools) -> list[ToolCall]:
        made.append(found := await real(calls))
        return found

    monkeypatch.setattr(SqlTools, "owing", owing)
    monkeypatch.setattr("relit.gateway.tools.settling.FIRST_S", 0.001)
    monkeypatch.setattr("relit.gateway.tools.desk.LOOK_S", 0.01)
    monkeypatch.setattr("relit.gateway.tools.desk.AGAIN_S", 0.0)
    return made


async def some(looks: list[Any]) -> None:
    """The desk has looked around, and has ended what it began then."""
    seen = len(looks)
    await until(lambda: len(looks) >= seen + 10)


class Service:
    """Answers nothing that can be understood, until it is well."""

    def __init__(self) -> None:
        self.well = False
        self.state = ""

    def act(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome | Exception:
        if not self.well:
            return Unsure("HTTP status 500")
        self.state = arguments["to"]
        return text(f"it is {self.state}")


async def states(home: House) -> list[str]:
    return [each.state for each in await home.store.tools.of_run("r1")]


async def test_what_is_set_is_not_set_again_by_itself_over_what_was_set_since(tmp_path: Path, looks: list[Any]) -> None:
    service = Service()
    source = Scripted([mail(effect="natural-key")], service.act)
    async with house(tmp_path, source) as home:
        words, _ = await home.call(to="open")
        assert "it is not made again by itself" in words
        service.well = True
        await home.call(to="closed")
        await some(looks)
    async with house(tmp_path, source, me="g2") as home:
        await some(looks)
        assert (service.state, await states(home)) == ("closed", ["in_doubt", "done"])
        assert len(source.made) == settling.ATTEMPTS + 1


async def test_what_is_set_is_set_when_its_agent_asks_for_it_again(tmp_path: Path, looks: list[Any]) -> None:
    service = Service()
    async with house(tmp_path, Scripted([mail(effect="natural-key")], service.act)) as home:
        words, _ = await home.call(to="open")
        assert "make it again with the same arguments" in words
        service.well = True
        await home.call(to="closed")
        assert await home.call(to="open") == ("it is open", False)
        await some(looks)
        assert await states(home) == ["done", "done", "replayed"]
        assert home.told == [], "it has the result"


async def test_other_words_that_mean_the_same_do_not_send_those_that_are_in_doubt(tmp_path: Path) -> None:
    service = Service()
    async with house(tmp_path, Scripted([mail(effect="natural-key", same=("to",))], service.act)) as home:
        await home.call(to="ann", text="open")
        service.well = True
        words, _ = await home.call(to="ann", text="closed")
        assert "Do not make it again: a person is asked" in words
        assert service.state == ""


@pytest.mark.parametrize("followed", [True, False])
async def test_another_life_sets_again_only_what_was_the_last(tmp_path: Path, followed: bool) -> None:
    service = Service()
    async with house(tmp_path, Scripted([mail(effect="natural-key")], service.act)) as home:
        await home.call(to="open")
        service.well = True
        if followed:
            await home.call(to="closed")
        home.turns.now = Turn(run="r1", life="2")
        words, _ = await home.call(to="open")
        assert service.state == ("closed" if followed else "open")
        assert ("Do not make it again: a person is asked" in words) == followed


async def test_what_a_service_knows_by_its_key_is_sent_again_until_it_is_certain(tmp_path: Path) -> None:
    service = Service()
    source = Scripted([mail(effect="native-key")], service.act)
    async with house(tmp_path, source) as home:
        words, _ = await home.call(to="ann")
        assert "relit goes on trying" in words
        await until(lambda: len(source.made) > settling.ATTEMPTS)
        service.well = True
        await until(lambda: home.told)
        assert "it is ann" in home.told[0]
        assert len({key for _, key in source.made}) == 1


async def test_a_key_that_may_be_forgotten_is_not_sent_again(tmp_path: Path, looks: list[Any]) -> None:
    service = Service()
    source = Scripted([mail(effect="native-key")], service.act)
    async with house(tmp_path, source, clock=Tomorrow()) as home:
        words, _ = await home.call(to="ann")
        assert "Do not make it again: a person is asked" in words
        service.well = True
        assert (await home.call(to="ann"))[0] == words
        await some(looks)
        assert len(source.made) == settling.ATTEMPTS
        assert await states(home) == ["in_doubt", "replayed"]


async def test_a_gateway_that_died_with_a_key_long_ago_leaves_a_doubt() -> None:
    assert settling.left_open("native-key", known=True) == "send"
    assert settling.left_open("native-key", known=False) == "in_doubt"


async def test_who_knows_a_key_for_longer_says_so(tmp_path: Path) -> None:
    service = Service()
    async with house(
        tmp_path, Scripted([mail(effect="native-key", key_ms=2 * DAY)], service.act), clock=Tomorrow()
    ) as home:
        await home.call(to="ann")
        service.well = True
        await until(lambda: home.told)
        assert "it is ann" in home.told[0]


async def test_a_look_up_is_made_again_until_it_is_certain(tmp_path: Path, looks: list[Any]) -> None:
    source = Scripted([mail(effect="lookup", timeout=0.05)], lambda call, arguments: Unsure("cut off"))
    there = asyncio.Event()
    source.found = lambda call: text("it is there") if there.is_set() else None
    async with house(tmp_path, source, clock=Tomorrow()) as home:
        await home.call(to="ann")
        there.set()
        await until(lambda: home.told)
        assert "it is there" in home.told[0]
