"""MCP's own conformance suite against the gateway's address, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import json
import os
import re
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
OFFERED = {
    "dns-rebinding-protection", "json-schema-2020-12", "tools-list", "tools-call-simple-text", "tools-call-image",
    "tools-call-audio", "tools-call-embedded-resource", "tools-call-mixed-content", "tools-call-error",
}  # fmt: skip
OF_ITS_ERA = {
    "2025-11-25": {"server-initialize", "ping"},
    "2026-07-28": {"server-stateless", "caching", "http-header-validation"},
}
# What a server may offer and this one does not: scenarios that fail, or single checks of one.
PROMPTS_AND_RESOURCES = [
    "completion-complete", "prompts-list", "prompts-get-simple", "prompts-get-with-args",
    "prompts-get-embedded-resource", "prompts-get-with-image", "resources-list", "resources-read-text",
    "resources-read-binary", "resources-templates-read", "tools-call-with-progress",
]  # fmt: skip
NOT_OFFERED = {
    "2025-11-25": [
        *PROMPTS_AND_RESOURCES, "elicitation-sep1034-defaults", "elicitation-sep1330-enums", "logging-set-level",
        "resources-subscribe", "resources-unsubscribe", "tools-call-elicitation", "tools-call-sampling",
        "tools-call-with-logging", "server-sse-multiple-streams", "server-sse-polling",
    ],
    "2026-07-28": [
        *PROMPTS_AND_RESOURCES,
        *(f"caching:sep-2549-{each}-list-caching-hints" for each in ("prompts", "resources", "resources-templates")),
        "http-custom-header-server-validation", "sep-2164-resource-not-found",
        *(
            f"input-required-result-{each}"
            for each in (
                "basic-elicitation", "basic-list-roots", "basic-sampling", "capability-check", "multi-round",
                "multiple-input-requests", "non-tool-request", "request-state", "result-type", "tampered-state",
                "missing-input-response", "ignore-extra-params",
            )
        ),
        *(
            f"server-stateless:sep-2575-{each}"
            for each in (
                "server-rejects-undeclared-capability", "missing-capability-http-400",
                "http-server-no-independent-requests-on-stream", "server-no-log-without-loglevel",
            )
        ),
    ],
}  # fmt: skip


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


async def said(place: Path, *words: str | Path) -> tuple[int | None, str]:
    """How the suite ended, and what it said."""
    program = place / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
    process = await asyncio.create_subprocess_exec(
        node_house.node() / "bin/node",
        program,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    return process.returncode, told.decode()


async def known(place: Path, revision: str) -> set[str]:
    """The scenarios that the suite has for servers."""
    _, told = await said(place, "list", "--server", "--spec-version", revision)
    return set(re.findall(r"^  - (\S+)", told, re.M))


def checks(results: Path) -> dict[str, list[str]]:
    """What was found by each scenario that ran."""
    return {
        each.parent.name.removeprefix("server-").rsplit("-", 6)[0]: [
            check["status"] for check in json.loads(each.read_text())
        ]
        for each in results.glob("*/checks.json")
    }


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_everything_that_is_offered_conforms(tmp_path: Path, revision: str) -> None:
    try:
        place = node_house.installed()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    baseline, results = tmp_path / "baseline.yml", tmp_path / "results"
    baseline.write_text(json.dumps({"server": NOT_OFFERED[revision]}))
    async with house(tmp_path, Scripted(TOOLS, act)) as home, with_token(home.gateway.url) as url:
        code, told = await said(
            place, "server", "--url", url, "--suite", "all", "--spec-version", revision,
            "--expected-failures", baseline, "-o", results,
        )  # fmt: skip
    assert code == 0, told[-4000:]
    found = checks(results)
    assert found.keys() == await known(place, revision), "all of them ran"
    for scenario in OFFERED | OF_ITS_ERA[revision]:
        assert "SUCCESS" in found[scenario], scenario
