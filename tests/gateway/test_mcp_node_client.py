"""The official TypeScript SDK's clients, the newer and the one that agents carry, against the gateway's MCP address."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import node_clients_house as node_house
import pytest
from gateway_house import TOKEN
from node_clients_house import Client
from tools_house import House, Scripted, house, mail

from relit.gateway.tools.base import Outcome, text
from relit.store.tools import GAVE_UP, ToolCall
from relit.testing.servers import Missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ERAS = pytest.mark.parametrize("era", ["modern", "legacy"])


@pytest.fixture(scope="module")
def js() -> Iterator[Client]:
    try:
        place = node_house.installed()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with node_house.client(place, "mcp") as made:
        yield made


def to(home: House, era: str, **more: Any) -> dict[str, Any]:
    return {"url": home.gateway.url, "token": TOKEN, "era": era, **more}


@ERAS
async def test_it_lists_tools_and_calls_them(js: Client, tmp_path: Path, era: str) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        assert await js.told("list", **to(home, era)) == {"value": ["mail", "read_result"]}
        found = await js.told("call", **to(home, era, name="mail", args={"to": "ann"}))
        assert found == {"value": {"text": "sent to ann", "failed": False}}
        assert len(home.source.made) == 1


@ERAS
async def test_errors_are_of_the_right_kind(js: Client, tmp_path: Path, era: str) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        assert (await js.told("call", **to(home, era, name="mail", args={"to": 7})))["value"]["failed"]
        assert "Unknown tool" in (await js.told("call", **to(home, era, name="none", args={})))["error"]["message"]
        wrong = await js.told("list", **{**to(home, era), "token": "wrong"})
        assert "error" in wrong


@ERAS
async def test_a_client_that_gives_up_finds_the_result_when_it_asks_again(js: Client, tmp_path: Path, era: str) -> None:
    go = asyncio.Event()

    async def slow(call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        await go.wait()
        return text("at last")

    async with house(tmp_path, Scripted([mail()], slow)) as home:
        assert "error" in await js.told("call", **to(home, era, name="mail", args={"to": "ann"}, ms=500))
        go.set()
        while (await home.store.tools.of_run("r1"))[0].heard != GAVE_UP:
            await asyncio.sleep(0.02)
        found = await js.told("call", **to(home, era, name="mail", args={"to": "ann"}))
        assert found["value"]["text"] == "at last"
        assert len(home.source.made) == 1
