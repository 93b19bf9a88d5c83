"""A call that no budget limits is sent while it is written down, and nothing of its answer passes before it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from gateway_house import CHAT, HELLO, KEY, OK, TOKEN, Answering, Heard, client, provider, sends
from spool_house import left_by

from relit.errors import StoreUnavailable
from relit.gateway.ledger import Ledger
from relit.gateway.prices import Price
from relit.gateway.routes import Caller, Known, Route
from relit.gateway.server import Gateway
from relit.gateway.soon import Soon
from relit.gateway.spool import Spool
from relit.store.calls import Calls
from relit.store.sql.calls import USD
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Answer, Budget, ModelCall

PRICES = {"m": Price(input=1, output=1)}
EVENTS = b'data: {"model": "m", "usage": {"prompt_tokens": 20, "completion_tokens": 5}}\n\ndata: [DONE]\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + EVENTS


class Slow:
    """The store's calls, which are written down when ``go`` says so, or not at all."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.go, self.asked, self.broken = asyncio.Event(), asyncio.Event(), False
        self.ends, self.failed, self.ends_broken = asyncio.Event(), asyncio.Event(), False
        self.ends.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    async def open(self, call: ModelCall, budgets: Sequence[Budget]) -> ModelCall:
        self.asked.set()
        await self.go.wait()
        if self.broken:
            self.failed.set()
            raise StoreUnavailable("cannot write", why="a test")
        return await self._calls.open(call, budgets)

    async def end(self, call: ModelCall, answer: Answer | None = None) -> bool:
        await self.ends.wait()
        if self.ends_broken:
            raise StoreUnavailable("cannot write", why="a test")
        return await self._calls.end(call, answer)


class House:
    def __init__(self, store: SqliteStore, slow: Slow, spool: Spool, heard: list[Heard], http: httpx.AsyncClient):
        self.store, self.slow, self.spool, self.heard, self.http = store, slow, spool, heard, http

    async def calls(self) -> list[ModelCall]:
        return await self.store.calls.of_agent("scout")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relit.gateway.ledger.LATE_S", 0.05)


@asynccontextmanager
async def house(
    folder: Path,
    *,
    budget: bool = False,
    spooled: bool = True,
    stream: bool = False,
    answers: Answering | None = None,
) -> AsyncIterator[House]:
    store = SqliteStore(folder / "relit.db")
    await store.start()
    slow = Slow(store.calls)
    spool = Spool(folder / "answers")
    budgets = {"scout": Budget(scope="agent:scout", limit=USD)} if budget else {}
    ledger = Ledger(cast(Calls, slow), PRICES, budgets, {}, spool=spool if spooled else None)
    async with provider(answers or sends(STREAM if stream else OK)) as there:
        route = Route("default", there.url, KEY)
        made = Gateway({"default": route}, Known([Caller("scout", TOKEN, "default")]), port=0, ledger=ledger)
        await made.start()
        try:
            async with client(made) as http:
                yield House(store, slow, spool, there.heard, http)
        finally:
            slow.go.set()
            slow.ends.set()
            await made.stop()
            await store.stop()


async def until_heard(home: House, many: int) -> None:
    async with asyncio.timeout(5):
        while len(home.heard) < many:
            await asyncio.sleep(0.01)


async def test_it_is_sent_meanwhile_and_nothing_is_passed_on(tmp_path: Path) -> None:
    async with house(tmp_path) as home, asyncio.TaskGroup() as group:
        asking = group.create_task(home.http.post(CHAT, json=HELLO))
        await until_heard(home, 1)
        done, _ = await asyncio.wait([asking], timeout=0.2)
        assert not done
        assert [each.asked.call.agent for each in left_by(home.spool).left()] == ["scout"]
        home.slow.go.set()
        assert (await asking).status_code == 200
        assert [each.state for each in await home.calls()] == ["done"]


async def test_of_a_stream_only_its_head_is_passed_on_before(tmp_path: Path) -> None:
    async with (
        house(tmp_path, stream=True) as home,
        home.http.stream("POST", CHAT, json={**HELLO, "stream": True}) as answer,
    ):
        assert answer.status_code == 200
        reading = asyncio.ensure_future(anext(answer.aiter_raw()))
        done, _ = await asyncio.wait([reading], timeout=0.2)
        assert not done
        assert await home.calls() == []
        home.slow.go.set()
        assert await reading == EVENTS


async def test_a_stream_that_cannot_be_written_down_says_so_and_nothing_else(tmp_path: Path) -> None:
    async with house(tmp_path, stream=True) as home:
        home.slow.broken = True
        home.slow.go.set()
        heard = b""
        with contextlib.suppress(httpx.RemoteProtocolError):
            async with home.http.stream("POST", CHAT, json={**HELLO, "stream": True}) as answer:
                async for piece in answer.aiter_raw():
                    heard += piece
        assert heard.startswith(b"event: error\ndata: {")
        assert b'"store"' in heard
        assert b"usage" not in heard
        assert (await home.http.post(CHAT, json=HELLO)).status_code == 503, "the next is not sent"


async def test_what_becomes_due_meanwhile_is_done_at_once() -> None:
    soon = Soon()
    first = soon.next()
    assert soon.next() is first
    await first
    assert soon.next() is not first


@pytest.mark.parametrize("how", [{"budget": True}, {"spooled": False}])
async def test_with_a_budget_or_nowhere_to_leave_it_the_commit_comes_first(tmp_path: Path, how: dict[str, Any]) -> None:
    async with house(tmp_path, **how) as home, asyncio.TaskGroup() as group:
        asking = group.create_task(home.http.post(CHAT, json=HELLO))
        await home.slow.asked.wait()
        await asyncio.wait([asking], timeout=0.2)
        assert home.heard == []
        home.slow.go.set()
        assert (await asking).status_code == 200


async def test_what_cannot_be_written_down_is_not_answered_and_the_next_is_not_sent(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.slow.broken = True
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(home.http.post(CHAT, json=HELLO))
            await until_heard(home, 1)
            home.slow.go.set()
        refused = asking.result()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store")
        assert (await home.http.post(CHAT, json=HELLO)).status_code == 503
        assert len(home.heard) == 1, "it was sent before anybody knew"
        assert len(left_by(home.spool).left()) == 1, "the next gateway would write that one down"
        home.slow.broken = False
        assert (await home.http.post(CHAT, json=HELLO)).status_code == 200
        async with asyncio.timeout(5):
            while len(found := await home.calls()) < 2 or {each.state for each in found} != {"done", "failed"}:
                await asyncio.sleep(0.01)
        assert left_by(home.spool).left() == []


async def test_a_commit_that_failed_is_tried_again_before_an_answer_is_refused(tmp_path: Path) -> None:
    begin = asyncio.Event()

    async def slow(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await begin.wait()
        writer.write(OK)
        await writer.drain()

    async with house(tmp_path, answers=slow) as home:
        home.slow.broken = True
        home.slow.go.set()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(home.http.post(CHAT, json=HELLO))
            await home.slow.failed.wait()
            home.slow.broken = False
            begin.set()
        assert asking.result().status_code == 200
        assert [each.state for each in await home.calls()] == ["done"]
        assert len(home.heard) == 1


async def test_an_end_that_could_not_be_written_down_is_when_the_store_is_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.slow.go.set()
        home.slow.ends_broken = True
        assert (await home.http.post(CHAT, json=HELLO)).status_code == 200
        assert [each.state for each in await home.calls()] == ["open"]
        home.slow.ends_broken = False
        async with asyncio.timeout(5):
            while [each.state for each in await home.calls()] != ["done"]:
                await asyncio.sleep(0.01)
        assert left_by(home.spool).left() == []


async def test_what_a_stream_gives_back_to_a_budget_is_there_for_the_next_call(tmp_path: Path) -> None:
    async with house(tmp_path, budget=True, stream=True) as home:
        home.slow.go.set()
        for _ in range(5):
            await home.http.post(CHAT, json={**HELLO, "stream": True})
            assert {each.state for each in await home.calls()} == {"done"}


async def test_whoever_hangs_up_meanwhile_is_on_record(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        asking = asyncio.ensure_future(home.http.post(CHAT, json=HELLO))
        await until_heard(home, 1)
        asking.cancel()
        await asyncio.wait([asking])
        home.slow.go.set()
        async with asyncio.timeout(5):
            while [each.state for each in await home.calls()] != ["cancelled"]:
                await asyncio.sleep(0.01)


async def test_a_streams_end_is_heard_before_its_commit_and_the_next_gateway_would_write_it_down(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, stream=True) as home:
        home.slow.go.set()
        home.slow.ends.clear()
        async with home.http.stream("POST", CHAT, json={**HELLO, "stream": True}) as answer:
            heard = b"".join([piece async for piece in answer.aiter_raw()])
        [left] = left_by(home.spool).left()
        assert (left.body, left.whole) == (heard, True)
        [call] = await home.calls()
        assert call.state == "open"
        other = SqliteStore(tmp_path / "other.db")
        await other.start()
        await Ledger(other.calls, PRICES, {}, {}, spool=left_by(home.spool)).start()
        [found] = await other.calls.of_agent("scout")
        await other.stop()
        assert (found.state, found.output, found.why) == ("done", 5, "")
        home.slow.ends.set()
    assert list(home.spool.folder.iterdir()) == []
