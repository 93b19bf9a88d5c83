"""Every call is written down before it is sent and when it has ended, however it ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from gateway_house import CHAT, HELLO, KEY, OK, TOKEN, Heard, client, deaf, health, provider, sends
from spool_house import left_by
from turns_house import PRICES, life, recorder

from relit.gateway.ledger import Ledger
from relit.gateway.routes import Caller, Known, Patience, Route
from relit.gateway.server import Gateway
from relit.gateway.spool import Spool
from relit.lib import proc
from relit.lib.lives import Life
from relit.store.sql.calls import USD, day_of
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Budget, ModelCall

USED = {"model": "m", "usage": {"prompt_tokens": 20, "completion_tokens": 100}}
ASKED = {**HELLO, "max_tokens": 100}
DONE = b"\n\ndata: [DONE]\n\n"
COST = 1_020_000  # billionths of a dollar: 20 at 1 and 100 at 10 dollars a million


@asynccontextmanager
async def gateway(url: str, store: SqliteStore, limit: float | None = None, **route: Any) -> AsyncIterator[Gateway]:
    budgets = {} if limit is None else {"scout": Budget(scope="agent:scout", limit=round(limit * USD))}
    made = Gateway(
        {"default": Route("default", url, KEY, **route)},
        Known([Caller("scout", TOKEN, "default"), Caller("scout", "clone", "default", clone=True)]),
        port=0,
        ledger=Ledger(store.calls, PRICES, budgets, {}),
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def answers(document: Any, status: str = "200 OK", kind: str = "application/json") -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def only(store: SqliteStore) -> ModelCall:
    [found] = await store.calls.of_agent("scout")
    return found


async def test_what_it_used_is_written_down(store: SqliteStore) -> None:
    async with provider(sends(answers(USED))) as there, gateway(there.url, store, 1.0) as here, client(here) as http:
        assert (await http.post(CHAT, json=ASKED)).json() == USED
    found = await only(store)
    assert (found.state, found.status, found.model, found.estimated) == ("done", 200, "m", False)
    assert (found.input, found.output, found.cost) == (20, 100, COST)
    [spent] = await store.calls.spending(day_of(found.started_at))
    assert (spent.spent, spent.reserved) == (COST, 0)


async def test_it_is_on_disk_before_the_provider_hears_of_it(store: SqliteStore) -> None:
    seen: list[ModelCall] = []

    async def look(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await store.calls.open_calls())
        writer.write(OK)
        await writer.drain()

    async with provider(look) as there, gateway(there.url, store) as here, client(here) as http:
        await http.post(CHAT, json=ASKED)
    [found] = seen
    assert (found.agent, found.route, found.protocol, found.model, found.state) == (
        "scout", "default", "chat", "m", "open",
    )  # fmt: skip
    assert found.reserved > 0


async def test_without_a_spool_the_end_is_on_disk_before_the_stream_ends(store: SqliteStore) -> None:
    stream = b'data: {"model": "m", "choices": []}\n\ndata: ' + json.dumps(USED).encode() + b"\n\ndata: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    async with (
        provider(sends(head, stream)) as there, gateway(there.url, store) as here, client(here) as http,
        http.stream("POST", CHAT, json={**ASKED, "stream": True}) as answer,
    ):  # fmt: skip
        got = b"".join([piece async for piece in answer.aiter_raw()])
        assert (await only(store)).cost == COST
    assert got == stream


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oops"])
async def test_a_refusal_costs_nothing(store: SqliteStore, status: str) -> None:
    async with (
        provider(sends(answers({"error": {}}, status))) as there, gateway(there.url, store, 1.0) as here,
        client(here) as http,
    ):  # fmt: skip
        await http.post(CHAT, json=ASKED)
    found = await only(store)
    assert (found.state, found.status, found.cost) == ("failed", int(status[:3]), 0)


async def test_a_provider_that_is_not_there_costs_nothing(store: SqliteStore) -> None:
    async with gateway("http://127.0.0.1:1/v1", store, 1.0) as here, client(here) as http:
        assert (await http.post(CHAT, json=ASKED)).status_code == 502
    found = await only(store)
    assert (found.state, found.status, found.cost) == ("failed", 0, 0)
    assert "the call failed" in found.why


async def test_a_stream_that_breaks_off_is_estimated(store: SqliteStore) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 4000\r\n\r\n"
    async with (
        provider(sends(head, b'data: {"choices": []}\n\n' * 10)) as there, gateway(there.url, store, 1.0) as here,
        client(here) as http,
    ):  # fmt: skip
        with pytest.raises(httpx.HTTPError):
            await http.post(CHAT, json={**ASKED, "stream": True})
        found = await only(store)
    assert (found.state, found.estimated) == ("failed", True)
    assert found.cost > 0


async def test_a_stream_that_ends_early_counts_what_came(store: SqliteStore) -> None:
    """Anthropic says at the beginning that one token was written, and at the end how many."""
    begin = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 10, "output_tokens": 1}}}
    delta = b'data: {"type": "content_block_delta", "delta": {"text": "a word or two"}}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 400000\r\n\r\n"
    async with (
        provider(sends(head, b"data: " + json.dumps(begin).encode() + b"\n\n" + delta * 400)) as there,
        gateway(there.url, store) as here, client(here) as http,
    ):  # fmt: skip
        with pytest.raises(httpx.HTTPError):
            await http.post(CHAT, json={**ASKED, "stream": True})
        found = await only(store)
    assert (found.state, found.input, found.estimated) == ("failed", 10, True)
    assert 200 < found.output < 3000


async def given_up(here: Gateway, store: SqliteStore, when: Callable[[], Awaitable[object]], **more: Any) -> ModelCall:
    """A call whose caller hangs up then."""
    async with asyncio.timeout(10), client(here) as http:
        asking = asyncio.create_task(http.post(CHAT, json={**ASKED, **more}))
        while not await when():
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait([asking])
        while (found := await only(store)).state == "open":
            await asyncio.sleep(0.01)
    return found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{"])
async def test_who_gives_up_before_an_answer_pays_for_all_that_it_may_say(
    store: SqliteStore, begun: bytes, stream: bool
) -> None:
    went = asyncio.Event()

    async def waits(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        went.set()
        await reader.read()

    async def reached() -> bool:
        return went.is_set()

    async with provider(waits) as there, gateway(there.url, store, 1.0) as here:
        found = await given_up(here, store, reached, stream=stream, pad="x" * 4000)
    assert (found.state, found.estimated, found.cost) == ("cancelled", True, found.reserved)
    assert found.input > 500
    assert found.cost > 100 * 10_000, "the answer that it allows, too"
    [spent] = await store.calls.spending(day_of(found.started_at))
    assert (spent.spent, spent.reserved) == (found.reserved, 0)


@pytest.mark.parametrize(("wait_ms", "times"), [(1, 2), (15_000, 1)])
async def test_after_a_refusal_only_a_call_that_was_sent_again_is_paid_for(
    store: SqliteStore, wait_ms: int, times: int
) -> None:
    async def refuses_once(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(there.heard) > 1:
            await reader.read()
        writer.write(b"HTTP/1.1 503 No\r\nConnection: close\r\nRetry-After-Ms: %d\r\n\r\n" % wait_ms)

    async with provider(refuses_once) as there, gateway(there.url, store, 1.0, retries=1) as here:

        async def refused() -> bool:
            return len(there.heard) == times and (await health(here))["failures"] == 1

        found = await given_up(here, store, refused)
    assert (found.state, found.cost > 0) == ("cancelled", times == 2)


async def test_who_gives_up_before_there_is_a_connection_pays_nothing(store: SqliteStore) -> None:
    with deaf() as url:
        async with gateway(url, store, 1.0) as here:
            found = await given_up(here, store, store.calls.open_calls)
    assert (found.state, found.cost) == ("cancelled", 0)


async def test_under_a_budget_nothing_is_done_in_the_background(store: SqliteStore) -> None:
    async with gateway("http://127.0.0.1:1/v1", store, 1.0) as here, client(here) as http:
        refused = await http.post("/openai/v1/responses", json={"model": "m", "input": "x", "background": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "no-price")


async def test_odd_numbers_break_nothing(store: SqliteStore) -> None:
    huge = {"model": "m\0m", "usage": {"prompt_tokens": 10**30, "completion_tokens": 5}}
    async with provider(sends(answers(huge))) as there, gateway(there.url, store) as here, client(here) as http:
        assert (await http.post(CHAT, json={**ASKED, "max_tokens": 10**30})).status_code == 200
    assert (await only(store)).state == "done"


async def test_what_no_budget_has_room_for_is_not_sent(store: SqliteStore) -> None:
    async with provider(sends(answers(USED))) as there, gateway(there.url, store, 0.0015) as here, client(here) as http:
        assert (await http.post(CHAT, json=ASKED)).status_code == 200
        refused = await http.post(CHAT, json=ASKED)
    assert refused.status_code == 402
    assert refused.json()["error"]["type"] == "insufficient_quota"
    assert refused.headers["x-should-retry"] == "false"
    assert len(there.heard) == 1


async def test_calls_at_once_cannot_overshoot(store: SqliteStore) -> None:
    async with provider(sends(answers(USED))) as there, gateway(there.url, store, 0.0055) as here, client(here) as http:
        got = await asyncio.gather(*(http.post(CHAT, json=ASKED) for _ in range(20)))
    assert {each.status_code for each in got} == {200, 402}
    [spent] = await store.calls.spending(day_of((await store.calls.of_agent("scout"))[0].started_at))
    assert spent.spent <= 5_500_000
    assert spent.reserved == 0


async def test_under_a_budget_nothing_is_sent_whose_price_nobody_knows(store: SqliteStore) -> None:
    also = ("/images",)
    async with gateway("http://127.0.0.1:1/v1", store, 1.0, also=also) as here, client(here) as http:
        model = await http.post(CHAT, json={**ASKED, "model": "unheard-of"})
        call = await http.post("/openai/v1/images/generations", json={"prompt": "a boat"})
    assert (model.status_code, model.json()["error"]["code"]) == (400, "no-price")
    assert 'prices."unheard-of"' in model.json()["error"]["message"]
    assert (call.status_code, call.json()["error"]["code"]) == (403, "no-price")
    assert await store.calls.of_agent("scout") == []


async def test_what_costs_nothing_is_not_written_down(store: SqliteStore) -> None:
    async with provider(sends(OK)) as there, gateway(there.url, store, 1.0) as here, client(here) as http:
        assert (await http.get("/openai/v1/models")).status_code == 200
    async with gateway("http://127.0.0.1:1/v1", store, 1.0) as here, client(here, "clone") as http:
        assert (await http.post(CHAT, json=ASKED)).status_code == 200
    assert await store.calls.of_agent("scout") == []


async def test_what_a_dead_gateway_left_open_counts_as_what_it_may_have_cost(store: SqliteStore) -> None:
    gone = msgspec.structs.replace(proc.myself(), start=1)
    elsewhere = msgspec.structs.replace(proc.myself(), boot="another")
    budget = Budget(scope="agent:scout", limit=USD)
    for id, owner in (("dead", gone), ("elsewhere", elsewhere), ("alive", proc.myself())):
        call = ModelCall(
            id=id, agent="scout", route="default", model="m", gateway=msgspec.json.encode(owner).decode(), reserved=7
        )
        await store.calls.open(call, [budget])

    def found() -> Any:
        return store.calls.of_agent("scout")

    await Ledger(store.calls, PRICES, {}, {}, alone=False).start()
    assert {each.id: (each.state, each.cost) for each in await found()} == {
        "dead": ("cut", 7), "elsewhere": ("open", 0), "alive": ("open", 0),
    }  # fmt: skip
    async with gateway("http://127.0.0.1:1/v1", store):  # the only one: after a reboot nobody else is
        assert {each.id: each.state for each in await found()} == {
            "dead": "cut", "elsewhere": "cut", "alive": "open",
        }  # fmt: skip


async def test_without_a_store_nothing_is_sent(store: SqliteStore, tmp_path: Path) -> None:
    other = SqliteStore(tmp_path / "other.db")
    await other.start()
    async with provider(sends(OK)) as there, gateway(there.url, other) as here, client(here) as http:
        await other.stop()
        refused = await http.post(CHAT, json=ASKED)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (503, "true")
    assert there.heard == []


async def test_patience_is_the_routes(store: SqliteStore) -> None:
    async def silent(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    patience = Patience(first_byte=0.1)
    async with provider(silent) as there, gateway(there.url, store, patience=patience) as here, client(here) as http:
        assert (await http.post(CHAT, json=ASKED)).status_code == 504
    call = await only(store)
    assert (call.state, call.estimated) == ("failed", True)
    assert call.cost > 0, "it may have worked on it all the same"


# --- a turn that is delivered again -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_what_was_answered_is_given_again_byte_by_byte(
    store: SqliteStore, tmp_path: Path, size: int, encoding: str
) -> None:
    raw = b"data: " + json.dumps({**USED, "text": random.Random(1).randbytes(size).hex()}).encode() + DONE
    body = gzip.compress(raw) if encoding == "gzip" else raw
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: {encoding}\r\nX-Their: s\r\n"
    whole = head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    async with (
        provider(sends(whole)) as there, recorder(there.url, store, tmp_path / "blobs") as here, client(here) as http,
    ):  # fmt: skip
        await life(store, 1)
        first = await http.post(CHAT, json=ASKED)
        await life(store, 2)
        second = await http.post(CHAT, json=ASKED)
        third = await http.post(CHAT, json=ASKED)
    assert (second.status_code, second.content, second.headers["x-their"]) == (200, first.content, "s")
    assert "x-relit-replayed" in second.headers
    assert "x-relit-replayed" not in first.headers
    assert "x-relit-replayed" not in third.headers, "it has answered its one call"
    assert len(there.heard) == 2
    calls = await store.calls.of_run("r1")
    assert [(each.state, each.cost, each.saved) for each in calls] == [
        ("done", COST, 0), ("replayed", 0, COST), ("done", COST, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/event-stream", b'data: {"choices": []}\n\ndata: {"error": {"message": "provider gone"}}' + DONE),
        ("text/event-stream", b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n'),
        ("text/event-stream", b'data: {"type": "response.failed", "response": {"error": {"code": "x"}}}\n\n'),
        ("text/event-stream", b'data: {"choices": [{"delta": {"content": "cut"}}]}\n\n'),
        ("application/json", b'{"error": {"message": "upstream overloaded", "code": 529}}'),
    ],
)
async def test_a_failure_that_looks_like_an_answer_is_asked_for_again_in_the_next_life(
    store: SqliteStore, tmp_path: Path, kind: str, body: bytes
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with (
        provider(sends(head.encode() + body)) as there, recorder(there.url, store, tmp_path / "blobs") as here,
        client(here) as http,
    ):  # fmt: skip
        for number in (1, 2):
            await life(store, number)
            assert (await http.post(CHAT, json=ASKED)).content == body
    assert len(there.heard) == 2


async def test_what_belongs_to_no_turn_is_not_kept(store: SqliteStore, tmp_path: Path) -> None:
    async with (
        provider(sends(answers(USED))) as there, recorder(there.url, store, tmp_path / "blobs") as here,
        client(here) as http,
    ):  # fmt: skip
        for _ in range(2):
            await http.post(CHAT, json=ASKED)
    assert len(there.heard) == 2
    assert [await store.calls.answer(each.id) for each in await store.calls.of_agent("scout")] == [None, None]


async def test_an_answer_that_is_lost_is_bought_again(store: SqliteStore, tmp_path: Path) -> None:
    large = answers({**USED, "text": random.Random(1).randbytes(200_000).hex()})
    async with (
        provider(sends(large)) as there, recorder(there.url, store, tmp_path / "blobs") as here, client(here) as http,
    ):  # fmt: skip
        await life(store, 1)
        await http.post(CHAT, json=ASKED)
        shutil.rmtree(tmp_path / "blobs")
        (tmp_path / "blobs").mkdir()
        await life(store, 2)
        assert (await http.post(CHAT, json=ASKED)).status_code == 200
    assert len(there.heard) == 2


class Slow:
    """A provider that answers when it is told to, in two pieces."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b"data: " + json.dumps(USED).encode() + DONE
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:7])
        await writer.drain()
        self.begun.set()
        left = asyncio.create_task(reader.read())
        going = asyncio.create_task(self.go.wait())
        await asyncio.wait([left, going], return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        going.cancel()
        writer.write(body[7:])
        await writer.drain()


@pytest.mark.parametrize("early", [False, True])
async def test_a_call_whose_caller_dies_is_finished_and_answers_the_next_life(
    store: SqliteStore, tmp_path: Path, early: bool
) -> None:
    slow = Slow()
    with subprocess.Popen(["sleep", "100"]) as agent:
        start = proc.start_time(agent.pid)
        assert start is not None
        now = Life(agent.pid, start)
        async with provider(slow) as there, recorder(there.url, store, tmp_path / "blobs", lambda _: now) as here:
            await life(store, 1)
            async with client(here) as http:
                asking = asyncio.create_task(http.post(CHAT, json=ASKED))
                await slow.begun.wait()
                agent.kill()
                asking.cancel()
                await asyncio.wait([asking])
            await life(store, 2)
            async with client(here) as http:
                again = asyncio.create_task(http.post(CHAT, json=ASKED))
                if early:
                    await asyncio.sleep(0.3)
                    assert not again.done(), "it waits for the one that is being finished"
                slow.go.set()
                answer = await again
    assert answer.status_code == 200
    assert json.dumps(USED) in answer.text
    assert len(there.heard) == 1, "it was bought once"
    assert [each.state for each in await store.calls.of_run("r1")] == ["done", "replayed"]


async def test_what_its_caller_has_of_a_stream_lies_beside_the_database_until_it_is_written_down(
    store: SqliteStore, tmp_path: Path
) -> None:
    spool, slow = Spool(tmp_path / "answers"), Slow()
    await life(store, 1)
    async with (
        provider(slow) as there, recorder(there.url, store, tmp_path / "blobs", spool=spool) as here,
        client(here) as http, http.stream("POST", CHAT, json={**ASKED, "stream": True}) as answer,
    ):  # fmt: skip
        pieces = answer.aiter_raw()
        first = await anext(pieces)
        [left] = left_by(spool).left()
        assert left.body == first
        slow.go.set()
        assert json.dumps(USED).encode() in first + b"".join([piece async for piece in pieces])
    assert (await only(store)).state == "done"
    assert list(spool.folder.iterdir()) == []


async def test_a_caller_that_lives_and_hangs_up_has_cancelled(store: SqliteStore, tmp_path: Path) -> None:
    slow = Slow()
    me = proc.myself()
    async with (
        provider(slow) as there,
        recorder(there.url, store, tmp_path / "blobs", lambda _: Life(me.pid, me.start)) as here,
    ):
        await life(store, 1)
        async with client(here) as http:
            asking = asyncio.create_task(http.post(CHAT, json=ASKED))
            await slow.begun.wait()
            asking.cancel()
            await asyncio.wait([asking])
        async with asyncio.timeout(10):
            while (await only(store)).state == "open":
                await asyncio.sleep(0.01)
    assert (await only(store)).state == "cancelled"
