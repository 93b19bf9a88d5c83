"""A provider that refuses for now is asked again; when it fails another one stands in. The agent sees one answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from gateway_house import CHAT, HELLO, OK, TOKEN, Answering, Heard, client, provider, sends
from hypothesis import given
from hypothesis import strategies as st

from relit.gateway.again import WAIT_MOST, Next, Pass, Verdict, Wait, asked_to_wait, broken, refused
from relit.gateway.ledger import Ledger
from relit.gateway.routes import Caller, Known, Patience, Route
from relit.gateway.server import Gateway
from relit.store.sql.sqlite.store import SqliteStore

NOW = 1_800_000_000.0


def verdict(status: int, headers: dict[str, str] | None = None, **options: Any) -> Verdict:
    given = {"attempt": 1, "retries": 2, "others": False, "now_s": NOW, "chance": Random(1)}
    return refused(status, headers or {}, **(given | options))


# --- the decision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_tried_again_and_then_told(status: int) -> None:
    assert isinstance(verdict(status), Wait)
    assert isinstance(verdict(status, attempt=2), Wait)
    assert verdict(status, attempt=3) == Pass()
    assert verdict(status, attempt=3, others=True) == Next()


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_wrong_request_is_the_agents_alone(status: int) -> None:
    assert verdict(status, others=True) == Pass()


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_provider_that_does_not_want_us_is_not_asked_again(status: int) -> None:
    assert verdict(status) == Pass()
    assert verdict(status, others=True) == Next()


def test_the_provider_says_how_long() -> None:
    later = format_datetime(datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=7), usegmt=True)
    assert verdict(429, {"retry-after": "3"}) == Wait(3)
    assert verdict(429, {"retry-after": later}) == Wait(7)
    assert verdict(429, {"retry-after-ms": "250", "retry-after": "9"}) == Wait(0.25)
    assert verdict(429, {"retry-after": "3600"}) == Pass()
    assert verdict(429, {"retry-after": "3600"}, others=True) == Next()
    assert verdict(429, {"x-should-retry": "false"}) == Pass()


@given(text=st.text(max_size=40))
def test_no_header_breaks_it(text: str) -> None:
    told = asked_to_wait({"retry-after": text, "retry-after-ms": text}, NOW)
    assert told is None or told >= 0


@given(attempt=st.integers(1, 50), retries=st.integers(0, 10), others=st.booleans(), heard=st.booleans())
def test_attempts_end(attempt: int, retries: int, others: bool, heard: bool) -> None:
    found = broken(attempt=attempt, retries=retries, heard=heard, others=others, chance=Random(1))
    if isinstance(found, Wait):
        assert attempt <= retries
        assert not heard
        assert 0 < found.seconds <= WAIT_MOST
    else:
        assert isinstance(found, Next) == others


# --- in the gateway -------------------------------------------------------------------------------------------------


def answers(status: str, body: Any = None, *headers: str) -> bytes:
    text = json.dumps(body or {}).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(text)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + text


BUSY = answers("429 Too Many Requests", {"error": {"message": "busy"}}, "retry-after-ms: 10")
DOWN = answers("500 Oops", {"error": {"message": "down"}}, "retry-after-ms: 10")


def in_turn(*each: bytes) -> Answering:
    """Another answer each time; the last one from then on."""
    left = list(each)

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return answer


@asynccontextmanager
async def gateway(*routes: Route, ledger: Ledger | None = None) -> AsyncIterator[Gateway]:
    callers = Known([Caller("scout", TOKEN, routes[0].name)])
    made = Gateway({each.name: each for each in routes}, callers, port=0, ledger=ledger)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_a_busy_provider_is_asked_again() -> None:
    async with (
        provider(in_turn(BUSY, DOWN, OK)) as there, gateway(Route("a", there.url, None, retries=2)) as here,
        client(here) as http,
    ):  # fmt: skip
        assert (await http.post(CHAT, json=HELLO)).status_code == 200
    assert len({each.body for each in there.heard}) == 1
    assert len(there.heard) == 3


async def test_the_last_refusal_arrives_as_it_was() -> None:
    async with (
        provider(in_turn(BUSY)) as there, gateway(Route("a", there.url, None, retries=1)) as here,
        client(here) as http,
    ):  # fmt: skip
        answer = await http.post(CHAT, json=HELLO)
    assert (answer.status_code, answer.json(), answer.headers["retry-after-ms"]) == (
        429, {"error": {"message": "busy"}}, "10",
    )  # fmt: skip
    assert len(there.heard) == 2


async def test_another_provider_stands_in_with_its_own_key_and_model() -> None:
    async with (
        provider(in_turn(DOWN)) as one, provider(sends(OK)) as two,
        gateway(
            Route("a", one.url, "key-a", retries=1, fallback=("b",)), Route("b", two.url, "key-b", model="other"),
        ) as here,
        client(here) as http,
    ):  # fmt: skip
        assert (await http.post(CHAT, json=HELLO)).status_code == 200
    assert len(one.heard) == 2
    [heard] = two.heard
    assert heard.header("Authorization") == ["Bearer key-b"]
    assert json.loads(heard.body) == {**HELLO, "model": "other"}
    assert json.loads(one.heard[0].body) == HELLO


async def test_each_that_stands_in_is_asked_what_the_agent_asked() -> None:
    """Not for the model of the one before it."""
    async with (
        provider(in_turn(DOWN)) as one, provider(in_turn(DOWN)) as two, provider(sends(OK)) as three,
        gateway(
            Route("a", one.url, None, fallback=("b", "c")), Route("b", two.url, None, model="b's own"),
            Route("c", three.url, None),
        ) as here,
        client(here) as http,
    ):  # fmt: skip
        assert (await http.post(CHAT, json=HELLO)).status_code == 200
    assert [json.loads(each.heard[0].body)["model"] for each in (one, two, three)] == ["m", "b's own", "m"]


async def test_one_that_is_not_there_is_stood_in_for() -> None:
    async with (
        provider(sends(OK)) as two,
        gateway(Route("a", "http://127.0.0.1:1/v1", None, fallback=("gone", "b")), Route("b", two.url, None)) as here,
        client(here) as http,
    ):  # fmt: skip
        assert (await http.post(CHAT, json=HELLO)).status_code == 200
        health = (await http.get("/healthz")).json()["routes"]
    assert (health["a"]["ok"], health["b"]["ok"]) == (False, True)


async def test_when_all_fail_the_last_word_counts() -> None:
    async with (
        provider(in_turn(BUSY)) as one, provider(in_turn(DOWN)) as two,
        gateway(Route("a", one.url, None, fallback=("b",)), Route("b", two.url, None)) as here, client(here) as http,
    ):  # fmt: skip
        assert (await http.post(CHAT, json=HELLO)).status_code == 500


async def test_a_stream_that_has_begun_is_never_begun_again() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 4000\r\n\r\ndata: {}\n\n"
    async with (
        provider(sends(head)) as one, provider(sends(OK)) as two,
        gateway(Route("a", one.url, None, retries=3, fallback=("b",)), Route("b", two.url, None)) as here,
        client(here) as http,
    ):  # fmt: skip
        with pytest.raises(httpx.HTTPError):
            await http.post(CHAT, json={**HELLO, "stream": True})
    assert (len(one.heard), len(two.heard)) == (1, 0)


async def test_an_answer_that_takes_too_long_in_all_is_broken_off() -> None:
    async def drips(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 4000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b": \n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with (
        provider(drips) as there, gateway(Route("a", there.url, None, patience=Patience(total=0.3))) as here,
        client(here) as http,
    ):  # fmt: skip
        with pytest.raises(httpx.HTTPError):
            await http.post(CHAT, json={**HELLO, "stream": True})
        assert "not whole after 0.3 s" in (await http.get("/healthz")).json()["routes"]["a"]["last_error"]


async def test_each_route_has_an_entry_of_its_own(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "relit.db")
    await store.start()
    try:
        async with (
            provider(in_turn(BUSY)) as one, provider(sends(OK)) as two,
            gateway(
                Route("a", one.url, None, retries=1, fallback=("b",)), Route("b", two.url, None),
                ledger=Ledger(store.calls, {}, {}, {}),
            ) as here,
            client(here) as http,
        ):  # fmt: skip
            await http.post(CHAT, json=HELLO)
        found = [(each.route, each.state) for each in reversed(await store.calls.of_agent("scout"))]
    finally:
        await store.stop()
    assert found == [("a", "failed"), ("b", "done")]
