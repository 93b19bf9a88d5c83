"""MCP by hand: what a request must say, in both eras, and what is answered to what cannot be."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from gateway_house import TOKEN
from hypothesis import given
from hypothesis import strategies as st
from tools_house import House, Scripted, house, mail

from relit.gateway.tools import mcp

VERSION, ABLE = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"
META = {"_meta": {VERSION: mcp.MODERN, ABLE: {}}}


def request(method: str = "tools/list", **params: Any) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def modern(method: str = "tools/list", **more: str) -> dict[str, str]:
    return {"mcp-protocol-version": mcp.MODERN, "mcp-method": method} | more


def refused(body: bytes, headers: dict[str, str]) -> tuple[int, int]:
    """(HTTP status, JSON-RPC code)."""
    with pytest.raises(mcp.Reply) as caught:
        mcp.parse(body, headers)
    assert caught.value.body is not None
    return caught.value.status, caught.value.body["error"]["code"]


def test_a_request_of_either_era_is_understood() -> None:
    old = mcp.parse(request(), {})
    assert (old.id, old.method, old.modern) == (1, "tools/list", False)
    new = mcp.parse(request(**META), modern())
    assert new.modern
    named = mcp.parse(
        request("tools/call", name="mäil", **META), modern("tools/call", **{"mcp-name": "=?base64?bcOkaWw=?="})
    )
    assert named.params["name"] == "mäil"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b'{"jsonrpc":"1.0","method":"x"}', b'{"jsonrpc":"2.0"}', b"[" * 100_000, b"\xff"],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    status, code = refused(body, {})
    assert (status, code) in {(400, mcp.PARSE), (400, mcp.INVALID)}


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (request(**META), {}, mcp.MISMATCH),
        (request(**META), {"mcp-protocol-version": "2025-11-25", "mcp-method": "tools/list"}, mcp.MISMATCH),
        (request(**META), modern("tools/call"), mcp.MISMATCH),
        (request("tools/call", name="a", **META), modern("tools/call"), mcp.MISMATCH),
        (request("tools/call", name="a", **META), modern("tools/call", **{"mcp-name": "b"}), mcp.MISMATCH),
        (request(), {"mcp-protocol-version": "1999-01-01"}, mcp.VERSION),
        (request(_meta={VERSION: "1900-01-01"}), {"mcp-protocol-version": "1900-01-01"}, mcp.VERSION),
        (request(_meta={VERSION: "1900-01-01"}), modern(), mcp.MISMATCH),
        (request(_meta={VERSION: "1900-01-01"}), {}, mcp.MISMATCH),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":[]}', {}, mcp.PARAMS),
        (b'{"jsonrpc":"2.0","id":null,"method":"x"}', {}, mcp.INVALID),
        (b'{"jsonrpc":"2.0","id":true,"method":"x"}', {}, mcp.INVALID),
    ],
)
def test_headers_and_body_must_agree(body: bytes, headers: dict[str, str], code: int) -> None:
    assert refused(body, headers) == (400, code)


@pytest.mark.parametrize("said", [{}, {"_meta": None}, {"_meta": {ABLE: {}}}, {"_meta": {VERSION: mcp.MODERN}}])
def test_a_request_of_the_newer_era_says_all_that_it_must(said: dict[str, Any]) -> None:
    assert refused(request(**said), modern()) == (400, mcp.PARAMS)


@pytest.mark.parametrize("version", [None, *mcp.LEGACY])
@pytest.mark.parametrize("said", [{}, {"_meta": None}, {"_meta": {"progressToken": 1}}, {"_meta": {ABLE: {}}}])
def test_a_request_of_an_older_era_needs_to_say_none_of_that(said: dict[str, Any], version: str | None) -> None:
    headers = {} if version is None else {"mcp-protocol-version": version}
    assert not mcp.parse(request(**said), headers).modern


@pytest.mark.parametrize("params", [{}, {"_meta": {VERSION: mcp.MODERN}}])
def test_a_notification_says_nothing_of_its_client(params: dict[str, Any]) -> None:
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
    assert mcp.parse(body, modern("notifications/cancelled")).id is None


def test_who_speaks_no_version_of_ours_is_told_which_there_are() -> None:
    with pytest.raises(mcp.Reply) as caught:
        mcp.parse(request(), {"mcp-protocol-version": "2031-01-01"})
    assert caught.value.body is not None
    assert caught.value.body["error"]["data"]["supported"][0] == mcp.MODERN


WORDS = st.sampled_from(["jsonrpc", "id", "method", "params", "_meta", "name"]) | st.text(max_size=3)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)
HEADERS = st.dictionaries(
    st.sampled_from(["mcp-protocol-version", "mcp-method", "mcp-name"]), st.text(max_size=12), max_size=3
)


@given(TREES, HEADERS)
def test_whatever_is_posted_is_a_request_or_refused(tree: Any, headers: dict[str, str]) -> None:
    with contextlib.suppress(mcp.Reply):
        assert isinstance(mcp.parse(msgspec.json.encode(tree), headers).params, dict)


# --- over HTTP ------------------------------------------------------------------------------------------------------


async def posted(home: House, body: bytes, method: str = "POST", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        sent = {
            "Authorization": f"Bearer {TOKEN}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return await http.request(method, f"{home.gateway.url}/mcp", headers=sent, content=body)


async def test_the_older_era_begins_with_initialize(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        for asked, told in (("2025-06-18", "2025-06-18"), ("2024-01-01", "2025-11-25")):
            answer = (await posted(home, request("initialize", protocolVersion=asked))).json()
            assert answer["result"]["protocolVersion"] == told
            assert answer["result"]["serverInfo"]["name"] == "relit"
        done = await posted(home, b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        assert (done.status_code, done.content) == (202, b"")
        assert (await posted(home, request("ping"))).json()["result"] == {}


async def test_each_result_of_the_newer_era_says_who_gave_it(tmp_path: Path) -> None:
    calls = [("server/discover", {}), ("tools/list", {}), ("tools/call", {"name": "mail", "arguments": {"to": "ann"}})]
    async with house(tmp_path, Scripted([mail()])) as home:
        for method, params in calls:
            sent = {"mcp_protocol_version": mcp.MODERN, "mcp_method": method, "mcp_name": "mail"}
            answer = (await posted(home, request(method, **params, **META), **sent)).json()["result"]
            assert answer["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "relit", method
        assert "_meta" not in (await posted(home, request())).json()["result"]


async def test_a_method_that_is_not_there_has_a_status_in_the_newer_era_alone(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        old = await posted(home, request("resources/list"))
        assert (old.status_code, old.json()["error"]["code"]) == (200, mcp.NO_METHOD)
        new = await posted(
            home, request("prompts/list", **META), mcp_protocol_version=mcp.MODERN, mcp_method="prompts/list"
        )
        assert (new.status_code, new.json()["error"]["code"]) == (404, mcp.NO_METHOD)


async def test_other_methods_and_other_peoples_pages_are_refused(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home:
        for method in ("GET", "DELETE"):
            answer = await posted(home, b"", method)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert (await posted(home, request(), Origin="https://evil.example")).status_code == 403
        assert (await posted(home, request(), Origin="http://localhost:3000")).status_code == 200
        assert (await posted(home, b" " * (5 << 20))).status_code == 413


async def test_who_is_unknown_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path, Scripted([mail()])) as home, httpx.AsyncClient(trust_env=False, verify=False) as http:
        for headers in ({}, {"Authorization": "Bearer nothing"}, {"Authorization": TOKEN}):
            answer = await http.post(f"{home.gateway.url}/mcp", headers=headers, content=request())
            assert answer.status_code == 401
