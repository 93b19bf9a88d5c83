"""MCP's own conformance suite against the gateway's address, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import node_clients_house as node_house
import pytest
from aiohttp import ClientSession, web
from gateway_house import TOKEN
from tools_house import Scripted, house

from relit.gateway.tools.base import Outcome, Tool, text
from relit.store.tools import ToolCall
from relit.testing.servers import Missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SOUND = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
IMAGE = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
RESOURCE = {"uri": "test://one", "mimeType": "text/plain", "text": "This is an embedded resource content."}
SAID: dict[str, list[dict[str, Any]]] = {
    "test_simple_text": [{"type": "text", "text": "This is a simple text response for testing."}],
    "test_image_content": [IMAGE],
    "test_audio_content": [{"type": "audio", "data": SOUND, "mimeType": "audio/wav"}],
    "test_embedded_resource": [{"type": "resource", "resource": RESOURCE}],
    "test_multiple_content_types": [
        {"type": "text", "text": "Multiple content types test:"},
        IMAGE,
        {"type": "resource", "resource": RESOURCE},
    ],
}
NESTED = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
# What a server may offer and this one does not.
NOT_OFFERED = (
    "completion", "elicitation", "input-required", "logging", "prompts", "resources", "sep-2164",
    "tools-call-elicitation", "tools-call-sampling", "tools-call-with-logging", "tools-call-with-progress",
)  # fmt: skip


def act(call: ToolCall, arguments: dict[str, Any]) -> Outcome:
    if call.tool == "test_error_handling":
        return text("This tool intentionally returns an error for testing", failed=True)
    return Outcome(content=SAID.get(call.tool, [{"type": "text", "text": "done"}]))


TOOLS = [
    *(Tool(name=name, description=f"It is {name}.", effect="read") for name in (*SAID, "test_error_handling")),
    Tool(name="json_schema_2020_12_tool", description="A tool with many words.", schema=NESTED, effect="read"),
]


@asynccontextmanager
async def with_token(url: str) -> AsyncIterator[str]:
    """The suite knows no tokens: this says the agent's for it, and changes nothing else."""
    async with ClientSession(auto_decompress=False) as session:

        async def on(request: web.BaseRequest) -> web.Response:
            headers = {**request.headers, "Authorization": f"Bearer {TOKEN}"}
            async with session.request(
                request.method, f"{url}{request.path}", headers=headers, data=await request.read()
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)

        runner = web.ServerRunner(web.Server(on))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        finally:
            await runner.cleanup()


async def suite(place: Path, url: str, revision: str, results: Path) -> dict[str, list[dict[str, Any]]]:
    """What it checked, by scenario."""
    program = place / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
    process = await asyncio.create_subprocess_exec(
        node_house.node() / "bin/node", program, "server", "--url", url, "--spec-version", revision, "-o", results,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    found = {
        each.parent.name.removeprefix("server-").rsplit("-", 6)[0]: json.loads(each.read_text())
        for each in results.glob("*/checks.json")
    }
    assert found, said.decode()[-2000:]
    return found


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_everything_that_is_offered_conforms(tmp_path: Path, revision: str) -> None:
    try:
        place = node_house.installed()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    async with house(tmp_path, Scripted(TOOLS, act)) as home, with_token(home.gateway.url) as url:
        found = await suite(place, url, revision, tmp_path / "results")
    failed = {
        f"{scenario}: {check['id']}: {check.get('errorMessage')}"
        for scenario, checks in found.items()
        if not scenario.startswith(NOT_OFFERED)
        for check in checks
        if check["status"] == "FAILURE"
    }
    assert failed == set()
    assert {"tools-list", "tools-call-simple-text", "tools-call-mixed-content", "tools-call-error"} <= found.keys()
