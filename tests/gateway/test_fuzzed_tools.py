"""Whatever an agent posts to ``/mcp``: it is answered as the protocol has it, nothing is called that was not asked for
rightly, and the next request is answered as well."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gateway_house import TOKEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tools_house import Scripted, house, mail

from relit.gateway.tools.base import text
from relit.gateway.tools.mcp import LEGACY, MODERN

BRIEF = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
META, ABLE = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"


@dataclass
class Here:
    """A gateway with tools in a thread of its own. ``wrong``: calls that should not have been carried out."""

    host: str
    port: int
    wrong: list[Any]

    def post(self, body: bytes, method: str = "POST", **headers: str) -> tuple[int, bytes]:
        way = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            known = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            way.request(method, "/mcp", body, known | {name.replace("_", "-"): each for name, each in headers.items()})
            answer = way.getresponse()
            return answer.status, answer.read()
        finally:
            way.close()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    wrong: list[Any] = []
    ready, end, found = threading.Event(), asyncio.Event(), list[Here]()

    def act(call: Any, arguments: dict[str, Any]) -> Any:
        if not isinstance(arguments.get("to"), str) or arguments.keys() - {"to", "text"}:
            wrong.append(arguments)
        return text("sent")

    async def serve(folder: Path) -> None:
        async with house(folder, Scripted([mail(effect="read")], act)) as home:
            parts = urlsplit(home.gateway.url)
            found.append(Here(str(parts.hostname), int(parts.port or 0), wrong))
            loops.append(asyncio.get_running_loop())
            ready.set()
            await end.wait()

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve(tmp_path_factory.mktemp("tools"))))
    thread.start()
    assert ready.wait(20)
    yield found[0]
    loops[0].call_soon_threadsafe(end.set)
    thread.join(20)


def some(**fields: Any) -> Any:
    """A table with any of these."""
    return st.fixed_dictionaries({}, optional=fields)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
names = st.text(max_size=8)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
METHODS = [
    "initialize", "ping", "tools/list", "tools/call", "server/discover", "notifications/initialized", "resources/read",
    "",
]  # fmt: skip
VERSIONS = st.sampled_from([MODERN, *LEGACY, "2099-01-01"])
params = some(
    name=st.sampled_from(["mail", "remember", "read_result", "../mail"]) | values,
    arguments=some(to=st.just("ann") | values, text=values, x=values) | values,
    _meta=some(**{META: VERSIONS | values, ABLE: st.just({}) | values}) | values,
    protocolVersion=values,
    cursor=values,
)
requests = some(
    jsonrpc=st.just("2.0") | values,
    id=st.integers() | st.text(max_size=5) | values,
    method=st.sampled_from(METHODS) | st.text(max_size=12) | values,
    params=params | values,
)
sound = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "id": st.integers(0, 9), "method": st.just("tools/call"), "params": params}
)
TWICE = b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "ping"}'
bodies = (
    (requests | sound | st.lists(requests, max_size=3) | values).map(lambda each: json.dumps(each).encode())
    | st.binary(max_size=60)
    | st.sampled_from([b"", b"[" * 5000, TWICE, b"\xef\xbb\xbf{}", b"nan"])
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "MCP_Protocol_Version": st.sampled_from([MODERN, *LEGACY, "", "x"]),
        "Mcp_Method": st.sampled_from(["tools/call", "tools/list", "ping", ""]),
        "Mcp_Name": st.sampled_from(["mail", "=?base64?bWFpbA==?=", "=?base64?%%?=", ""]),
        "Origin": st.sampled_from(["http://localhost:1", "https://evil.example", "null", "file://"]),
        "Accept": st.sampled_from(["application/json", "text/event-stream", "x"]),
        "Content_Type": st.sampled_from(["application/json", "text/plain", ""]),
    },
)


@pytest.mark.slow
@BRIEF
@given(body=bodies, said=headers, method=st.sampled_from([*["POST"] * 8, "GET", "DELETE", "PUT", "OPTIONS"]))
def test_every_post_is_answered_as_the_protocol_has_it(
    here: Here, body: bytes, said: dict[str, str], method: str
) -> None:
    status, answer = here.post(body, method, **said)
    assert status in (200, 202, 400, 403, 404, 405)
    if answer:
        found = json.loads(answer)
        assert found["jsonrpc"] == "2.0"
        assert ("result" in found) != ("error" in found)
        assert status == 200 or "error" in found
    else:
        assert status != 200
    assert here.wrong == []
    status, answer = here.post(b'{"jsonrpc": "2.0", "id": 7, "method": "tools/list"}')
    assert status == 200
    assert "mail" in [each["name"] for each in json.loads(answer)["result"]["tools"]]
