"""The official Python SDK's client, in both of the protocol's eras, against the gateway's MCP address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from gateway_house import TOKEN
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from tools_house import House, Scripted, house, mail

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


@asynccontextmanager
async def client(home: House, mode: Any, token: str = TOKEN) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, verify=False) as http,
        Client(streamable_http_client(f"{home.gateway.url}/mcp", http_client=http), mode=mode) as made,
    ):
        yield made


@ERAS
async def test_it_lists_tools_and_calls_them(tmp_path: Path, mode: str) -> None:
    async with house(tmp_path, Scripted([mail()])) as home, client(home, mode) as mcp:
        listed = await mcp.list_tools()
        assert [each.name for each in listed.tools] == ["mail", "read_result"]
        assert listed.tools[0].description == "Send a mail."
        assert listed.tools[0].annotations is not None
        assert listed.tools[0].annotations.read_only_hint is False
        answer = await mcp.call_tool("mail", {"to": "ann"})
        assert (answer.is_error, answer.content[0].type) == (False, "text")
        assert getattr(answer.content[0], "text", "") == "sent to ann"
        assert len(home.source.made) == 1


@ERAS
async def test_errors_are_of_the_right_kind(tmp_path: Path, mode: str) -> None:
    async with house(tmp_path, Scripted([mail()])) as home, client(home, mode) as mcp:
        answer = await mcp.call_tool("mail", {"to": 7})
        assert answer.is_error
        with pytest.raises(MCPError, match="Unknown tool: nothing"):
            await mcp.call_tool("nothing", {})


@ERAS
async def test_a_wrong_token_is_refused(tmp_path: Path, mode: str) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        with pytest.raises((MCPError, ExceptionGroup, httpx2.HTTPError)):
            async with client(home, mode, "wrong") as mcp:
                await mcp.list_tools()
        assert home.source.made == []


async def test_the_newest_era_is_spoken_where_the_client_can(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home, client(home, "auto") as mcp:
        assert mcp.protocol_version == "2026-07-28"
