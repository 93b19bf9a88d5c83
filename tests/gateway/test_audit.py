"""Who has no good token, or wants to go where it may not, is on record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
from gateway_house import CHAT, HELLO, TOKEN

from relit.errors import StoreUnavailable
from relit.events import Event
from relit.gateway.audit import Audit
from relit.gateway.refusal import Refused
from relit.gateway.routes import Caller, Known
from relit.gateway.server import Gateway
from relit.lib.clock import SYSTEM_CLOCK


class Book:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.there = True

    async def record(self, events: Sequence[Event]) -> None:
        if not self.there:
            raise StoreUnavailable("cannot write", why="a test")
        self.events += events


async def test_calls_that_are_refused_are_on_record_and_say_whose_token_it_was() -> None:
    book = Book()
    callers = Known([Caller("scout", TOKEN, ""), Caller("poet", "poets", "")])
    here = Gateway({}, callers, port=0, audit=Audit(book.record, SYSTEM_CLOCK))
    await here.start()
    async with httpx.AsyncClient(base_url=here.url, trust_env=False, verify=False) as http:
        for token in ("stolen", "stolen too", TOKEN):
            await http.post(CHAT, json=HELLO, headers={"Authorization": f"Bearer {token}"})
        await http.post(CHAT, json=HELLO, headers={"Authorization": f"Bearer {TOKEN}", "x-api-key": "poets"})
        await http.get("/openai/v1/../../vault", headers={"Authorization": f"Bearer {TOKEN}"})
    await here.stop()
    found = {(each.agent, each.data["code"]): each.data for each in book.events}
    assert found[None, "unauthorized"]["count"] >= 1
    assert found["scout", "not-found"]["count"] >= 1
    assert sum(each.data["count"] for each in book.events) == 5
    assert {each.name for each in book.events} == {"gateway.refused"}


async def test_what_is_alike_is_told_once_a_minute() -> None:
    book = Book()
    audit = Audit(book.record, SYSTEM_CLOCK)
    running = asyncio.ensure_future(audit.run())
    for _ in range(500):
        audit.saw("scout", Refused(401, "unauthorized", "no"))
        await asyncio.sleep(0)
    await audit.flush(every_s=60)
    assert len(book.events) == 1
    await audit.flush()
    assert sum(each.data["count"] for each in book.events) == 500
    running.cancel()


async def test_whoever_makes_up_reasons_fills_nothing() -> None:
    book = Book()
    audit = Audit(book.record, SYSTEM_CLOCK)
    for number in range(1000):
        audit.saw("", Refused(404, "not-found", f"{number}"))
    audit.saw("", Refused(429, "too-many-calls", "that is no attempt"))
    await audit.flush()
    assert len(book.events) <= 101
    assert sum(each.data["count"] for each in book.events) == 1000


async def test_a_store_that_is_away_costs_the_record_alone() -> None:
    book = Book()
    book.there = False
    audit = Audit(book.record, SYSTEM_CLOCK)
    audit.saw("", Refused(401, "unauthorized", "no"))
    await audit.flush()
    book.there = True
    await audit.flush()
    assert book.events == []
