"""Calls and answers pass the gateway byte by byte."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import aiohttp
import httpx
import pytest
from gateway_house import CHAT, HELLO, KEY, OK, TOKEN, Heard, client, gateway, health, provider, sends

from relit.testing.llm import Answer, Rule, ScriptedLLM, When

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_a_stream_in_odd_pieces_arrives_byte_by_byte() -> None:
    chance = random.Random(7)
    body = chance.randbytes(300_000)  # nothing that a text decoder would leave alone
    cuts = sorted(chance.sample(range(len(body)), 400))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]
    async with (
        provider(sends(CHUNKED, *(chunk(each) for each in pieces), b"0\r\n\r\n")) as there,
        gateway(there.url) as here,
        client(here) as http,
        http.stream("POST", CHAT, json=HELLO) as answer,
    ):
        got = b"".join([piece async for piece in answer.aiter_raw()])
    assert got == body
    assert answer.headers["content-type"] == "text/event-stream"


async def test_a_piece_is_passed_on_before_the_next_one_comes() -> None:
    go = asyncio.Event()

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"data: 1\n\n"))
        await go.wait()
        writer.write(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    async with (
        provider(answer) as there,
        gateway(there.url) as here,
        client(here) as http,
        http.stream("POST", CHAT, json=HELLO) as reply,
    ):
        pieces = reply.aiter_raw()
        assert await anext(pieces) == b"data: 1\n\n"
        go.set()
        assert [each async for each in pieces] == [b"data: 2\n\n"]


async def test_status_headers_and_errors_are_the_providers() -> None:
    body = b'{"error":  {"message": "slow down", "type": "rate_limit"}}'
    head = (
        b"HTTP/1.1 429 Slow Down Please\r\nContent-Type: application/json; odd=1\r\nContent-Length: %d\r\n"
        b"x-ratelimit-remaining-requests: 0\r\nretry-after: 17\r\nx-request-id: req_1\r\nServer: theirs\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Hop: gone\r\nConnection: close, X-Hop\r\n\r\n" % len(body)
    )
    async with provider(sends(head + body)) as there, gateway(there.url) as here, client(here) as http:
        answer = await http.post(CHAT, json=HELLO)
    assert (answer.status_code, answer.reason_phrase, answer.content) == (429, "Slow Down Please", body)
    assert answer.headers["content-type"] == "application/json; odd=1"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert (answer.headers["retry-after"], answer.headers["x-request-id"]) == ("17", "req_1")
    assert answer.headers["server"] == "theirs"
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert "x-hop" not in answer.headers


async def test_a_compressed_answer_stays_compressed() -> None:
    packed = zlib.compress(b'{"a": 1}' * 50)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with (
        provider(sends(head + packed)) as there,
        gateway(there.url) as here,
        client(here) as http,
        http.stream("POST", CHAT, json=HELLO) as answer,
    ):
        assert b"".join([piece async for piece in answer.aiter_raw()]) == packed
    assert answer.headers["content-encoding"] == "deflate"


async def test_the_provider_gets_the_agents_request_and_its_own_key() -> None:
    body = b'{ "model":"m",  "messages" : [ {"role":"user","content":"gr\\u00fc\xc3\x9fe"} ], "x": 1.0e2 }'
    sent = {"X-Custom": "kept", "User-Agent": "agent/1", "OpenAI-Beta": "x=1", "X-Api-Key": TOKEN}
    async with provider(sends(OK)) as there, gateway(there.url) as here, client(here) as http:
        await http.post(f"{CHAT}?a=%2Fb&c", content=body, headers={"Content-Type": "application/json", **sent})
    (heard,) = there.heard
    assert heard.line == "POST /v1/chat/completions?a=%2Fb&c HTTP/1.1"
    assert heard.body == body
    assert heard.header("authorization") == [f"Bearer {KEY}"]
    assert heard.header("host") == [there.url.split("/")[2]]
    assert heard.header("user-agent") == ["agent/1"]
    assert (heard.header("x-custom"), heard.header("openai-beta")) == (["kept"], ["x=1"])
    assert TOKEN not in repr(heard)


async def test_no_header_is_made_up() -> None:
    async with provider(sends(OK)) as there, gateway(there.url) as here:
        reader, writer = await asyncio.open_connection(*here.url.removeprefix("http://").split(":"))
        writer.write(b"GET /openai/v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer agent-token\r\n\r\n")
        await reader.readuntil(b"{}")
        writer.close()
    assert {name.lower() for name, _ in there.heard[0].headers} == {"host", "authorization"}


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async with provider(sends(OK)) as there, gateway(there.url, also=("/files",)) as here:
        reader, writer = await asyncio.open_connection(*here.url.removeprefix("http://").split(":"))
        head = (
            b"POST /openai/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer agent-token\r\nContent-Length: 5\r\n"
        )
        writer.write(head + b"Expect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
    assert (there.heard[0].body, there.heard[0].header("expect")) == (b"hello", [])


async def test_anthropics_key_goes_into_its_own_header() -> None:
    headers = {"x-api-key": TOKEN, "anthropic-version": "2023-06-01"}
    async with provider(sends(OK)) as there, httpx.AsyncClient() as http:
        for base in (there.url, there.url.removesuffix("/v1")):
            async with gateway(base, kind="anthropic") as here:
                await http.post(f"{here.url}/anthropic/v1/messages?beta=true", json=HELLO, headers=headers)
    first, heard = there.heard
    assert first.line == heard.line == "POST /v1/messages?beta=true HTTP/1.1"
    assert (heard.header("x-api-key"), heard.header("authorization")) == ([KEY], [])
    assert heard.header("anthropic-version") == ["2023-06-01"]


async def test_a_body_that_is_no_json_is_streamed_on() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    async with provider(sends(OK)) as there, gateway(there.url, also=("/files",)) as here, client(here) as http:
        await http.post("/openai/v1/files", content=parts())
        await http.post("/openai/v1/files", content=b"\x00\xff" * 9)
    assert [heard.body for heard in there.heard] == [b"one two", b"\x00\xff" * 9]
    assert there.heard[1].header("content-length") == ["18"]


async def test_a_large_body_goes_on_whole() -> None:
    body = json.dumps({**HELLO, "image": "x" * 3_000_000}).encode()
    async with provider(sends(OK)) as there, gateway(there.url) as here, client(here) as http:
        await http.post(CHAT, content=body, headers={"Content-Type": "application/json"})
    assert there.heard[0].body == body


async def test_default_becomes_the_routes_model_and_nothing_else_changes() -> None:
    body = b'{"messages": [ {"role":"user", "content":"\\u00e9 \\"default\\""} ], "model": "default","t":1.50}'
    async with provider(sends(OK)) as there, gateway(there.url, model="big/one") as here, client(here) as http:
        await http.post(CHAT, content=body)
        await http.post(CHAT, content=body.replace(b'"model": "default"', b'"model": "small"'))
    first, second = (heard.body for heard in there.heard)
    assert json.loads(first) == {**json.loads(body), "model": "big/one"}
    assert b'[ {"role":"user", "content":"\\u00e9 \\"default\\""} ]' in first
    assert b"1.50" in first
    assert json.loads(second)["model"] == "small"


SPOKEN = [
    ("chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}),
    ("responses", {"model": "m", "input": "hello there"}),
    ("embeddings", {"model": "m", "input": "hello there"}),
]


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(("path", "body"), SPOKEN, ids=[path for path, _ in SPOKEN])
async def test_through_the_gateway_is_as_without_it(path: str, body: dict[str, object], streams: bool) -> None:
    asked = {**body, "stream": True} if streams else body
    rules = [Rule(When(says="hello"), Answer("one two three"))]
    async with ScriptedLLM(rules) as near, ScriptedLLM(rules, key=KEY) as far, httpx.AsyncClient() as http:
        direct = await http.post(f"{near.url}/v1/{path}", json=asked)
        async with gateway(f"{far.url}/v1") as here, client(here) as agent:
            passed = await agent.post(f"/openai/v1/{path}", json=asked)
    assert (passed.status_code, passed.content) == (direct.status_code, direct.content)
    assert {**passed.headers, "date": ""} == {"server": "relit", **direct.headers, "date": ""}


async def test_a_slow_reader_holds_the_provider_back() -> None:
    """Memory stays small however much the provider has to send, and nothing is lost."""
    piece, count = bytes(range(256)) * 256, 1024  # 64 MiB
    sent, stalled = 0, asyncio.Event()

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * count))
        for _ in range(count):
            writer.write(piece)
            draining = asyncio.ensure_future(writer.drain())
            if not (await asyncio.wait([draining], timeout=1))[0]:
                stalled.set()
            await draining
            sent += len(piece)

    async with provider(answer) as there, gateway(there.url) as here, client(here) as http:
        tracemalloc.start()
        async with http.stream("POST", CHAT, json=HELLO) as reply:
            await stalled.wait()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 4 << 20
            assert sent < 40 << 20  # what the kernel's buffers of two connections take
            found = hashlib.sha256()
            async for part in reply.aiter_raw():
                found.update(part)
    assert found.digest() == hashlib.sha256(piece * count).digest()


async def test_two_hundred_streams_at_once() -> None:
    everyone = asyncio.Barrier(200)

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        who = json.loads(heard.body)["who"]
        writer.write(CHUNKED)
        for number in range(20):
            writer.write(chunk(b"data: %d of %d\n\n" % (number, who)))
            await writer.drain()
            if number == 9:
                await everyone.wait()  # so that all are open at the same time
        writer.write(b"0\r\n\r\n")

    async with provider(answer) as there, gateway(there.url, at_once=200) as here:
        headers, free = {"Authorization": f"Bearer {TOKEN}"}, aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(here.url, connector=free, headers=headers) as http:

            async def ask(who: int) -> bytes:
                async with http.post(CHAT, json={**HELLO, "who": who}) as reply:
                    return await reply.read()

            replies = await asyncio.gather(*(ask(who) for who in range(200)))
        assert (await health(here))["failures"] == 0
    for who, reply in enumerate(replies):
        assert reply == b"".join(b"data: %d of %d\n\n" % (number, who) for number in range(20))


async def test_connections_are_used_again() -> None:
    async with ScriptedLLM() as llm, gateway(f"{llm.url}/v1") as here, client(here) as http:
        for _ in range(5):
            assert (await http.post(CHAT, json=HELLO)).status_code == 200
    assert len(llm.requests) == 5
