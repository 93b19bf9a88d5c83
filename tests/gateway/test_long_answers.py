"""Answers of calls that set themselves no limit: what they may cost is reserved further and further as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import openai
import pytest
from gateway_house import CHAT, HELLO, KEY, TOKEN, Answering, Heard, client, provider
from turns_house import life

from relit.errors import StoreUnavailable
from relit.gateway.ledger import Ledger
from relit.gateway.prices import OUTPUT_MOST, Price
from relit.gateway.routes import Caller, Kind, Known, Route
from relit.gateway.server import Gateway
from relit.store.sql.calls import USD, SqlCalls
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Budget, ModelCall

PRICE = Price(input=0.0, output=10.0)
STEP = OUTPUT_MOST * 10 / 1_000_000  # dollars
ASKED = {**HELLO, "stream": True}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
WORD = b'data: {"choices": [{"index": 0, "delta": {"content": "word "}}]}\n\n'
STEP_EVENTS = OUTPUT_MOST // 2  # one of them counts as two tokens
PACE_S = 0.001  # a model is slower than a wire
END = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 50}}\n\ndata: [DONE]\n\n'


@pytest.fixture(autouse=True)
async def in_a_turn(store: SqliteStore) -> None:
    await life(store, 1)


@asynccontextmanager
async def gateway(url: str, store: SqliteStore, limit: float, kind: Kind = "openai") -> AsyncIterator[Gateway]:
    budgets = {"scout": Budget(scope="agent:scout", limit=round(limit * USD))}
    made = Gateway(
        {"default": Route("default", url, KEY, kind=kind)},
        Known([Caller("scout", TOKEN, "default")]),
        port=0,
        ledger=Ledger(store.calls, {"m": PRICE}, budgets, {}),
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def says(events: int | None) -> Answering:
    """So many words; ``None``: it does not end by itself."""

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        left = events
        while (left is None or left > 0) and not writer.is_closing():
            count = 128 if left is None else min(128, left)
            writer.write(WORD * count)
            await writer.drain()
            await asyncio.sleep(PACE_S)
            left = None if left is None else left - count
        if left == 0:
            writer.write(END)
            await writer.drain()

    return answer


async def hear(http: httpx.AsyncClient, said: list[bytes], *, raw: bool = False) -> None:
    async with http.stream("POST", CHAT, json=ASKED) as got:
        async for piece in got.aiter_raw() if raw else got.aiter_bytes():
            said.append(piece)


async def sums(store: SqliteStore) -> tuple[int, int]:
    [found] = await store.calls.spending((await store.calls.of_run("r1"))[0].budgets.split()[0])
    return found.spent, found.reserved


async def test_one_that_a_budget_has_room_for_is_whatever_its_length(store: SqliteStore) -> None:
    async with (
        provider(says(STEP_EVENTS * 3 - 100)) as there, gateway(there.url, store, STEP * 3.1) as here,
        client(here) as http,
    ):  # fmt: skip
        got = await http.post(CHAT, json=ASKED)
    assert got.content.endswith(END)
    assert got.content.count(b"word ") == STEP_EVENTS * 3 - 100
    [call] = await store.calls.of_run("r1")
    assert (call.state, call.output) == ("done", 50)
    assert await sums(store) == (call.cost, 0), "what it did not use was given back"


async def test_what_is_reserved_for_it_is_out_of_the_reach_of_others(store: SqliteStore) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + WORD * (STEP_EVENTS + 1))
        await writer.drain()
        begun.set()
        await go.wait()
        writer.write(END)

    async with provider(answer) as there, gateway(there.url, store, STEP * 2.5) as here, client(here) as http:
        first = asyncio.create_task(http.post(CHAT, json=ASKED))
        await begun.wait()
        async with asyncio.timeout(10):
            while (await sums(store))[1] < STEP * 2 * USD:
                await asyncio.sleep(0.01)
        second = await http.post(CHAT, json=ASKED)
        go.set()
        assert (await first).content.endswith(END)
    assert second.status_code == 402, "it may cost one step, and of two and a half two are reserved"


async def test_one_that_goes_beyond_its_budget_is_ended_there(store: SqliteStore) -> None:
    """Whoever asked hears why, and it is on record for its turn."""
    async with provider(says(None)) as there, gateway(there.url, store, STEP * 2.5) as here, client(here) as http:
        said: list[bytes] = []
        with pytest.raises(httpx.RemoteProtocolError):  # nobody can take it for a whole answer
            await hear(http, said)
    told = json.loads(b"".join(said).rpartition(b"data: ")[2])
    assert (told["error"]["code"], told["error"]["type"]) == ("budget-spent", "insufficient_quota")
    call, refused = await store.calls.of_run("r1")
    assert (call.state, call.estimated) == ("failed", True)
    assert (refused.state, refused.reserved) == ("refused", round(STEP * 3 * USD))
    spent, reserved = await sums(store)
    assert STEP * 2 * USD < spent < STEP * 2.5 * USD
    assert reserved == 0


@pytest.mark.parametrize(
    ("more", "event"),
    [
        (b"", b'data: {"choices": [{"delta": {"content": "' + b"word " * 800 + b'"}}]}\n\n'),
        (b"Content-Encoding: br\r\n", b"x" * 4_000),  # that cannot be read
    ],
)
async def test_large_pieces_count_as_what_they_are(store: SqliteStore, more: bytes, event: bytes) -> None:
    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD.replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n"))
        while not writer.is_closing():
            writer.write(event)
            await writer.drain()
            await asyncio.sleep(PACE_S)

    async with provider(answer) as there, gateway(there.url, store, STEP * 2.5) as here, client(here) as http:
        said: list[bytes] = []
        with pytest.raises(httpx.RemoteProtocolError):
            await hear(http, said, raw=True)
    assert len(b"".join(said)) < OUTPUT_MOST * 4 * 2.5
    assert (b"budget-spent" in b"".join(said)) is (not more), "in what is encoded nothing is written"


async def test_where_its_length_was_said_it_is_short(store: SqliteStore) -> None:
    length = len(WORD) * STEP_EVENTS * 3

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % length))
        for _ in range(length // len(WORD) // 128):
            if not writer.is_closing():
                writer.write(WORD * 128)
                await writer.drain()
                await asyncio.sleep(PACE_S)

    async with provider(answer) as there, gateway(there.url, store, STEP * 1.5) as here, client(here) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post(CHAT, json=ASKED)


async def test_a_store_that_is_away_for_a_moment_ends_no_answer(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    async def away(calls: SqlCalls, call: ModelCall, budgets: Sequence[Budget], refused: str) -> None:
        asked.append(call.reserved)
        raise StoreUnavailable("the store cannot be reached")

    monkeypatch.setattr(SqlCalls, "more", away)
    async with provider(says(None)) as there, gateway(there.url, store, STEP * 9) as here, client(here) as http:
        said: list[bytes] = []
        with pytest.raises(httpx.RemoteProtocolError):
            await hear(http, said)
    words = b"".join(said).count(b"word ")
    assert STEP_EVENTS * 1.9 < words < STEP_EVENTS * 2.3, "it may owe one step"
    assert len(asked) == 9


async def test_one_that_says_how_long_it_may_be_is_not_looked_after(store: SqliteStore) -> None:
    limited = {**ASKED, "max_tokens": 10}
    async with (
        provider(says(STEP_EVENTS * 2)) as there, gateway(there.url, store, STEP * 0.5) as here, client(here) as http,
    ):  # fmt: skip
        assert (await http.post(CHAT, json=limited)).content.endswith(END)


async def test_the_vendors_client_understands_it(store: SqliteStore) -> None:
    async with provider(says(None)) as there, gateway(there.url, store, STEP * 1.5) as here:
        ai = openai.AsyncOpenAI(base_url=f"{here.url}/openai/v1", api_key=TOKEN, max_retries=0)
        with pytest.raises(openai.APIError, match="the budget of agent:scout for today is spent") as raised:
            async for _ in await ai.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hello"}], stream=True
            ):
                pass
        await ai.close()
    assert raised.value.code == "budget-spent"
