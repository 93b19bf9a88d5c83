"""An agent that did not wait for a call is told of its end by a message: unless it came back, and has the result."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tools_house import House, Scripted, house, mail, until

from relit.gateway.tools.base import Outcome, text
from relit.store.sql.tools import SqlTools
from relit.store.tools import HEARD, ToolCall


async def only(home: House) -> ToolCall:
    """The call that was made, and not those that its record answered."""
    [found] = [each for each in await home.store.tools.of_run("r1") if each.state != "replayed"]
    return found


async def slow(go: asyncio.Event, call: ToolCall, arguments: dict[str, Any]) -> Outcome:
    await go.wait()
    return text("done at last")


async def heard(home: House) -> None:
    async with asyncio.timeout(10):
        while (await only(home)).heard != HEARD:
            await asyncio.sleep(0.01)


async def test_who_waits_a_second_time_and_gets_the_result_is_sent_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relit.gateway.tools.desk.LOOK_S", 0.01)
    go = asyncio.Event()
    async with house(tmp_path, Scripted([mail()], partial(slow, go)), hold_s=0.5) as home:
        words, _ = await home.call(to="ann")
        assert "still going on" in words
        assert (await only(home)).owed
        again = asyncio.ensure_future(home.call(to="ann"))
        await until(lambda: home.desk._waiters)
        go.set()
        assert await again == ("done at last", False)
        await heard(home)
        assert home.told == []
        assert not (await only(home)).owed


async def test_who_asks_while_the_message_is_being_written_is_not_sent_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = SqlTools.owing, asyncio.Event()

    async def owing(calls: SqlTools) -> list[ToolCall]:
        found = await real(calls)
        if found and not asked.is_set():
            words, _ = await home.call(to="ann")
            assert "not today" in words
            await heard(home)
            asked.set()
        return found

    async with house(tmp_path, Scripted([mail(policy="ask")]), hold_s=0.1) as home:
        await home.call(to="ann")
        monkeypatch.setattr(SqlTools, "owing", owing)
        await home.store.tools.decide((await only(home)).id, False, "eve", "not today")
        await asked.wait()
        await home.desk.stop()
        assert home.told == []


async def test_who_asks_again_and_goes_away_again_is_sent_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relit.gateway.tools.desk.LOOK_S", 0.01)
    go = asyncio.Event()
    async with house(tmp_path, Scripted([mail()], partial(slow, go)), hold_s=0.1) as home:
        await home.call(to="ann")
        again = asyncio.ensure_future(home.desk.call("scout", "mail", {"to": "ann"}))
        await until(lambda: home.desk._waiters)
        go.set()
        again.cancel()
        await asyncio.wait([again])
        await until(lambda: home.told)
        assert "done at last" in home.told[0]
