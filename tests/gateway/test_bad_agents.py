"""What an agent may try to get at what is not its own: each is refused, and no provider hears of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from gateway_house import KEY, OK, TOKEN, client, gateway, health, provider, sends
from watched_house import BODY, OTHER, ask, request, watched

from relit.gateway.arriving import BODY_MOST, HEAD_MOST
from relit.gateway.routes import Caller, Known, Patience, digest
from relit.gateway.target import Target, aim

META = "169.254.169.254"
PATHS = [
    "/openai/v1/../admin",
    "/openai/v1/x/../../admin",
    "/openai/v1/%2e%2e/admin",
    "/openai/v1/%2E%2e%2Fadmin",
    "/openai/v1/..%2f..%2fadmin",
    "/openai/v1/..%5cadmin",
    "/openai/v1/..\\admin",
    "/openai/v1/%252e%252e/admin",
    "/openai/v1/%25252e%25252e/admin",
    "/openai/v1/..;/admin",
    "/openai/v1/..;a=b/admin",
    "/openai/v1/..%3b/admin",
    "/openai/v1/%20../admin",
    "/openai/v1/..%20/admin",
    "/openai/v1/..%00/admin",
    "/openai/v1/x%0d%0aHost:%20evil/",
    "/openai/v1/./models",
    "/openai/v1/models#/../../admin",
    "/openai/v1/chat/completions#",
    "/openai/v1/chat/completions?a#b",
    "/openai/v1",
    "/openai/v1models",
    "/openai//v1/models",
    "/openai/../openai/v1/models",
    "//openai/v1/models",
    "/openai/v1%2fmodels",
    "/openai%2fv1/models",
    "/OPENAI/v1/models",
    "/v1/agents",
    "/v1/runs",
    "/v1/secrets",
    "/mailbox",
    "/metrics",
    "/",
]


async def test_no_path_leads_out_of_the_providers_own(tmp_path: Path) -> None:
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        for path in PATHS:
            for method in ("GET", "POST"):
                got = await ask(seen.here, request(path, method=method))
                assert (got.status, got.whole) == (404, True), path
        assert await seen.calls() == []
    assert there.heard == []


TARGETS = [
    f"http://{META}/latest/meta-data/",
    f"http://{META}/openai/v1/models",
    "http://gateway/openai/v1/models",
    "https://api.example.com/openai/v1/models",
    "file:///openai/v1/models",
    "gateway/openai/v1/models",
    f"{META}:80",
    "*",
    "@evil/openai/v1/models",
]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "CONNECT", "TRACE"])
async def test_no_target_makes_a_proxy_of_the_gateway(method: str, tmp_path: Path) -> None:
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        for target in TARGETS:
            got = await ask(seen.here, request(target, b"", method=method))
            assert got.status in (400, 404), target
    assert there.heard == []


HOSTS = [META, f"{META}:80", "evil.example", "127.0.0.1:1", "x@evil", "[::1", "", "a b", "gateway, evil"]


async def test_no_header_says_where_a_call_goes(tmp_path: Path) -> None:
    more = [f"{name}: {META}" for name in ("X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL", "Forwarded")]
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        for host in HOSTS:
            sent = request("/openai/v1/models", b"", *more, method="GET").replace(
                b"Host: gateway", f"Host: {host}".encode()
            )
            got = await ask(seen.here, sent)
            assert got.status in (200, 400), host
    heard = {(each.line, *each.header("host")) for each in there.heard}
    assert heard == {("GET /v1/models HTTP/1.1", there.url.split("/")[2])}


TOKENS = {
    "two agents, one in each header": [f"Authorization: Bearer {TOKEN}", f"x-api-key: {OTHER}"],
    "the other way round": [f"x-api-key: {TOKEN}", f"Authorization: Bearer {OTHER}"],
    "two agents in the same header": [f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {OTHER}"],
    "a list": [f"Authorization: Bearer {TOKEN}, Bearer {OTHER}"],
    "another scheme": [f"Authorization: Basic {TOKEN}"],
    "no scheme": [f"Authorization: {TOKEN}"],
    "half of it": [f"Authorization: Bearer {TOKEN[:-1]}"],
    "more than it": [f"Authorization: Bearer {TOKEN}x"],
    "in other letters": [f"Authorization: Bearer {TOKEN.upper()}"],
    "its digest": [f"x-api-key: {digest(TOKEN).hex()}"],
    "the provider's": [f"x-api-key: {KEY}"],
    "nothing": ["Authorization: Bearer ", "x-api-key: "],
    "no text": ["x-api-key: \xff\xfe"],
    "in a cookie": [f"Cookie: token={TOKEN}"],
    "a proxy's": [f"Proxy-Authorization: Bearer {TOKEN}"],
}


async def test_who_does_not_show_one_token_alone_is_refused(tmp_path: Path) -> None:
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        for name, lines in TOKENS.items():
            got = await ask(seen.here, request("/openai/v1/models", b"", *lines, method="GET", token=None))
            assert got.status == 401, name
        asked = await ask(seen.here, request(f"/openai/v1/models?api_key={TOKEN}&key={TOKEN}", b"", token=None))
        assert asked.status == 401
    assert there.heard == []


async def test_the_same_token_in_both_headers_is_one(tmp_path: Path) -> None:
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        for other in (TOKEN, "not-a-token"):
            got = await ask(seen.here, request("/openai/v1/models", b"", f"x-api-key: {other}", method="GET"))
            assert got.status == 200
        assert all(TOKEN not in repr(each) and "not-a-token" not in repr(each) for each in there.heard)


async def test_a_clone_does_not_pass_with_its_agents_token_beside_its_own() -> None:
    async with provider(sends(OK)) as there, gateway(there.url) as here:
        got = await ask(here, request("/openai/v1/models", b"", "x-api-key: clone", method="GET"))
    assert (got.status, there.heard) == (401, [])


def test_tokens_are_looked_up_by_their_digest() -> None:
    """How long a look-up takes tells nothing of how much of a token was right."""
    known = Known([Caller("scout", TOKEN, "default")])
    assert TOKEN not in repr(vars(known))
    assert [*vars(known)["_by_digest"]] == [digest(TOKEN)]
    assert len(digest("")) == len(digest("x" * 10_000)) == 32


async def test_calls_of_one_agent_are_its_own(tmp_path: Path) -> None:
    """No call names whose it is: that is the token's alone."""
    more = ["X-Agent: scout", "X-Relit-Agent: scout", "x-relit-replayed: true"]
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        await ask(seen.here, request("/openai/v1/chat/completions?agent=scout", BODY, *more, token=OTHER))
        assert (await seen.calls(), len(await seen.calls("other"))) == ([], 1)


SPELLED = ["chat/completions/", "/chat/completions", "chat//completions", "chat%2Fcompletions", "%63hat/completions"]


@pytest.mark.parametrize("path", SPELLED)
async def test_a_call_that_is_spelled_otherwise_is_counted_all_the_same(path: str, tmp_path: Path) -> None:
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        await ask(seen.here, request(f"/openai/v1/{path}"))
        assert (await seen.only()).protocol == "chat"
    assert len(there.heard) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/files"), ("GET", "/files/f_1/content"), ("DELETE", "/files/f_1"), ("GET", "/responses/r_1"),
        ("DELETE", "/responses/r_1"), ("GET", "/chat/completions?limit=100"), ("POST", "/images/generations"),
        ("DELETE", "/models/mine"), ("GET", "/%66iles"), ("POST", "/modelsx"), ("GET", "/responses/compact"),
    ],
)  # fmt: skip
async def test_what_a_provider_keeps_for_its_key_is_no_agents(method: str, path: str, tmp_path: Path) -> None:
    """The key is everybody's: another agent's files and answers lie there."""
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        got = await ask(seen.here, request(f"/openai/v1{path}", b"", method=method))
        assert (got.status, json.loads(got.body)["error"]["code"]) == (403, "forbidden")
    assert there.heard == []


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/files", True),
        ("/files/f_1/content", True),
        ("/filesystem", False),
        ("/images", False),
        ("/models/mine", True),
    ],
)
def test_what_the_settings_name_may_be_called_with_all_below(path: str, allowed: bool) -> None:
    assert Target("openai", path).allowed("DELETE", ["/files/", "/models"]) == allowed


@pytest.mark.parametrize("path", ["/completions", "/responses/compact", "/responses/input_tokens"])
def test_what_shows_nobody_anything_may_be_called(path: str) -> None:
    assert Target("openai", path).allowed("POST")


def test_what_follows_the_version_goes_on_as_it_was_asked() -> None:
    for below in (
        "/models/org%2Fname",
        "/models/a:b",
        "/files/caf%C3%A9?x=%2e%2e",
        "/responses/r_1",
        "/a..b/...",
        "//x",
    ):
        assert aim(f"/openai/v1{below}") == Target("openai", below)


# --- requests that are too much -------------------------------------------------------------------------------------


async def test_a_body_that_says_that_it_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        sent = request(body=b"").replace(b"Content-Length: 0", b"Content-Length: %d" % (BODY_MOST + 1))
        got = await ask(seen.here, sent.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert (got.status, json.loads(got.body)["error"]["code"]) == (413, "payload-too-large")
    assert there.heard == []


@pytest.mark.parametrize(
    ("lines", "statuses"),
    [
        (["X: " + "x" * 70_000], {400, 431}),
        ([f"X-{number}: x" for number in range(1000)], {400, 431}),
        ([f"X-{number}: " + "x" * 50_000 for number in range(HEAD_MOST // 50_000 + 1)], {431}),
    ],
    ids=["one large", "many", "all together"],
)
async def test_headers_that_are_too_large_are_refused(lines: list[str], statuses: set[int], tmp_path: Path) -> None:
    async with provider(sends(OK)) as there, watched(there.url, tmp_path) as seen:
        got = await ask(seen.here, request("/openai/v1/chat/completions", BODY, *lines))
        assert got.status in statuses
        long = await ask(seen.here, request("/openai/v1/models?" + "x" * 70_000, b"", method="GET"))
        assert long.status in (400, 414)
    assert there.heard == []


async def test_json_that_is_too_deep_is_the_providers_to_refuse(tmp_path: Path) -> None:
    body = b'{"model":"m","messages":' + b"[" * 100_000
    async with provider(sends(OK)) as there, watched(there.url, tmp_path, model="other") as seen:
        got = await ask(seen.here, request(body=body))
        assert json.loads(got.body)["error"]["code"] == "no-price", "under a budget: nobody can read what it costs"
        assert await seen.calls() == []
    assert there.heard == []
    async with provider(sends(OK)) as there, gateway(there.url, model="other") as here:
        marked = body.replace(b'"m"', b'"default","x":"relit-canary-1"')
        assert [(await ask(here, request(body=each))).status for each in (body, marked)] == [200, 200]
    assert [each.body for each in there.heard] == [body, marked]


@pytest.mark.parametrize("path", ["/openai/v1/chat/completions", "/openai/v1/files"])
async def test_a_body_that_does_not_come_is_not_the_providers_fault(path: str, tmp_path: Path) -> None:
    sent = request(path, BODY).replace(b"Content-Type: application/json", b"Content-Type: x/y")[:-5]
    patience = Patience(first_byte=0.3)

    async def silent(heard: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with provider(silent) as there, gateway(there.url, patience, also=("/files",)) as here, client(here):
        got = await ask(here, sent)
        assert (got.status, json.loads(got.body)["error"]["code"]) == (408, "request-timeout")
        assert (await health(here))["ok"]
