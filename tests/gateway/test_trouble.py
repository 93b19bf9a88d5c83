"""What happens when somebody is missing, leaves, or says nothing."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from gateway_house import CHAT, HELLO, OK, TOKEN, Heard, client, deaf, gateway, health, provider, sends

from relit.errors import ConfigError
from relit.gateway.arriving import BODY_MOST
from relit.gateway.routes import Known, Patience
from relit.gateway.server import Gateway
from relit.testing.llm import Answer, Rule, ScriptedLLM, When

MESSAGES = "/anthropic/v1/messages"


def nobody() -> str:
    """The URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


async def test_a_provider_that_cannot_be_reached_is_told_in_openais_words() -> None:
    async with gateway(nobody()) as here, client(here) as http:
        answer = await http.post(CHAT, json=HELLO)
        again = await http.post(CHAT, json=HELLO)
        seen = await health(here)
    assert (answer.status_code, again.status_code) == (502, 502)
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["retry"]) == ("server_error", "provider-fault", True)
    assert "[models.default]" in error["message"]
    assert answer.headers["x-should-retry"] == "true"
    assert (seen["ok"], seen["failures"]) == (False, 2)
    assert seen["failing_since"] <= seen["last_error_at"]
    assert "call failed" in seen["last_error"]


async def test_and_in_anthropics() -> None:
    async with gateway(nobody(), kind="anthropic") as here, client(here) as http:
        answer = await http.post(MESSAGES, json=HELLO)
    assert answer.status_code == 502
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "api_error"


@pytest.mark.parametrize("token", ["wrong", "grün", TOKEN[:-1]])
async def test_a_token_that_is_nobodys_is_refused(token: str) -> None:
    async with gateway(nobody()) as here, httpx.AsyncClient(base_url=here.url) as http:
        headers = {"Authorization": f"Bearer {token}".encode(), "x-api-key": b""}
        openai = await http.post(CHAT, json=HELLO, headers=headers)
        anthropic = await http.post(MESSAGES, json=HELLO, headers=headers)
        none = await http.get("/openai/v1/models")
        assert (await health(here))["ok"]
    assert (openai.status_code, anthropic.status_code, none.status_code) == (401, 401, 401)
    assert openai.json()["error"]["type"] == "invalid_request_error"
    assert anthropic.json()["error"]["type"] == "authentication_error"
    assert openai.headers["x-should-retry"] == "false"


async def test_either_protocols_header_may_carry_the_token() -> None:
    async with provider(sends(OK)) as there, gateway(there.url) as here, httpx.AsyncClient() as http:
        for headers in ({"X-API-Key": TOKEN}, {"authorization": f"bearer {TOKEN}"}):
            assert (await http.post(f"{here.url}{CHAT}", json=HELLO, headers=headers)).status_code == 200


async def test_a_route_that_is_missing_or_speaks_otherwise_is_named() -> None:
    async with gateway(nobody()) as here, client(here) as http, client(here, "lost-token") as lost:
        other = await http.post(MESSAGES, json=HELLO)
        missing = await lost.post(CHAT, json=HELLO)
    assert (other.status_code, missing.status_code) == (404, 404)
    assert "/openai/v1/" in other.json()["error"]["message"]
    assert "[models.nowhere]" in missing.json()["error"]["message"]


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/models", "/openai/models", "/openai/v1beta/models", "/openai/v1/%2e%2e/admin", "/openai/v1/a/..%2f../b"],
)
async def test_nothing_else_of_the_provider_is_reached(path: str) -> None:
    async with provider(sends(OK)) as there, gateway(there.url) as here, client(here) as http:
        assert (await http.get(httpx.URL(here.url).copy_with(raw_path=path.encode()))).status_code == 404
    assert there.heard == []


async def test_an_agent_that_leaves_in_the_middle_cancels_its_call() -> None:
    llm = ScriptedLLM([Rule(When(), Answer("one two three four"))])
    async with llm, gateway(f"{llm.url}/v1") as here, client(here) as http:
        with llm.hold(When(), after=2) as hold:
            async with http.stream("POST", CHAT, json={**HELLO, "stream": True}) as reply:
                call = await hold.caught()
                await anext(reply.aiter_raw())
            assert await call.ended() == "left"
        assert (await health(here))["failures"] == 0


async def test_an_agent_that_leaves_before_the_answer_cancels_its_call() -> None:
    async with ScriptedLLM() as llm, gateway(f"{llm.url}/v1") as here, client(here) as http:
        with llm.hold(When()) as hold:
            asking = asyncio.ensure_future(http.post(CHAT, json=HELLO))
            call = await hold.caught()
            asking.cancel()
            assert await call.ended() == "left"
        assert (await health(here))["failures"] == 0


async def test_an_answer_that_breaks_off_breaks_off_here_too() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with provider(sends(head)) as there, gateway(there.url) as here, client(here) as http:
        async with http.stream("POST", CHAT, json=HELLO) as reply:
            pieces = reply.aiter_raw()
            assert await anext(pieces) == b"hello"
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(pieces)
        assert "broke off" in (await health(here))["last_error"]


async def test_a_connection_that_ends_without_an_answer_is_the_providers_fault() -> None:
    async with provider(sends()) as there, gateway(there.url) as here, client(here) as http:
        assert (await http.post(CHAT, json=HELLO)).status_code == 502
        assert (await health(here))["failures"] == 1


async def test_a_silent_provider_is_waited_for_no_longer_than_was_said() -> None:
    over = asyncio.Event()

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"begin" in heard.body:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        assert await reader.read() == b""  # the gateway hung up
        over.set()

    patience = Patience(first_byte=0.3, idle=0.2)
    async with provider(answer) as there, gateway(there.url, patience) as here, client(here) as http:
        late = await http.post(CHAT, json=HELLO)
        await over.wait()
        over.clear()
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post(CHAT, json={**HELLO, "x": "begin"})
        await over.wait()
        seen = await health(here)
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "provider-silent"
    assert seen["failures"] == 2
    assert seen["last_error"] == "nothing came for 0.2 s"


async def test_a_connection_is_waited_for_no_longer_than_was_said() -> None:
    with deaf() as url:
        async with gateway(url, Patience(connect=0.2)) as here, client(here) as http:
            answer = await http.post(CHAT, json=HELLO)
            seen = await health(here)
    assert (answer.status_code, seen["last_error"]) == (502, "no connection in 0.2 s")


async def test_a_slow_reader_is_not_the_providers_fault() -> None:
    body = b"x" * (24 << 20)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with provider(sends(head, body)) as there, gateway(there.url, Patience(idle=0.2)) as here:
        async with client(here) as http, http.stream("POST", CHAT, json=HELLO) as reply:
            loop = asyncio.get_running_loop()
            passed = asyncio.Event()
            loop.call_later(0.8, passed.set)
            await passed.wait()
            assert sum([len(piece) async for piece in reply.aiter_raw()]) == len(body)
        assert (await health(here))["ok"]


async def test_a_request_that_is_too_large_is_refused() -> None:
    async with provider(sends(OK)) as there, gateway(there.url) as here, client(here) as http:
        answer = await http.post(CHAT, content=b"x" * (BODY_MOST + 1))
        assert (await health(here))["ok"]
    assert answer.status_code == 413
    assert there.heard == []


async def test_what_counts_as_a_providers_fault() -> None:
    statuses = iter([500, 400, 529, 401, 200])

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % next(statuses))

    async with provider(answer) as there, gateway(there.url) as here, client(here) as http:
        counted = []
        for _ in range(5):
            await http.post(CHAT, json=HELLO)
            seen = await health(here)
            counted.append((seen["failures"], seen["last_error"]))
    assert counted == [
        (1, "HTTP status 500"),
        (1, "HTTP status 500"),  # the request was wrong: that says nothing
        (2, "HTTP status 529"),
        (3, "HTTP status 401"),
        (0, "HTTP status 401"),
    ]
    assert seen["ok"]
    assert seen["failing_since"] is None


async def test_stop_ends_open_streams_in_time() -> None:
    llm = ScriptedLLM([Rule(When(), Answer("one two three"))])
    async with llm, gateway(f"{llm.url}/v1") as here, client(here) as http:
        with llm.hold(When(), after=2):
            bodies = [{**HELLO, "stream": True, "who": who} for who in range(20)]
            asking = [asyncio.ensure_future(http.post(CHAT, json=body)) for body in bodies]
            calls = [await llm.request(lambda ask, body=body: ask.body == body) for body in bodies]
            began = asyncio.get_running_loop().time()
            await here.stop()
            assert asyncio.get_running_loop().time() - began < 3
            ended = await asyncio.gather(*asking, return_exceptions=True)
            assert {await call.ended() for call in calls} == {"left"}
    assert {type(each) for each in ended} == {httpx.RemoteProtocolError}


async def test_stop_lets_an_answer_finish() -> None:
    async with ScriptedLLM() as llm, gateway(f"{llm.url}/v1") as here, client(here) as http:
        with llm.hold(When(), after=1) as hold:
            asking = asyncio.ensure_future(http.post(CHAT, json=HELLO))
            await hold.caught()
            stopping = asyncio.ensure_future(here.stop())
            hold.release()
            assert (await asking).status_code == 200
            await stopping
        await here.stop()  # safe twice


async def test_a_port_that_is_taken_is_a_fault_of_the_configuration() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        here = Gateway({}, Known([]), port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match=r"gateway\.listen"):
            await here.start()
        await here.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1"])
async def test_a_route_that_is_not_private_leads_to_nobody_here(host: str) -> None:
    async with provider(sends(OK)) as there:
        url = f"http://{host}:{urlsplit(there.url).port}/v1"
        async with gateway(url, private=False) as here, client(here) as http:
            refused = await http.post(CHAT, json=HELLO)
        assert (refused.status_code, refused.json()["error"]["code"]) == (502, "provider-private")
        assert "may not be called" in refused.json()["error"]["message"]
        assert "private = true in [models.default]" in refused.json()["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert there.heard == []
