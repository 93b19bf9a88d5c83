"""What is refused is on record: at once, and once a minute for all that are alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relit.errors import StoreUnavailable
from relit.lib.clock import SYSTEM_CLOCK
from relit.vault.refusals import Refusal, Refusals


class Book:
    def __init__(self) -> None:
        self.found: list[Refusal] = []
        self.there = True
        self.written = asyncio.Event()

    async def record(self, found: Sequence[Refusal]) -> None:
        if not self.there:
            raise StoreUnavailable("cannot write", why="a test")
        self.found += found
        self.written.set()


async def test_the_first_is_told_at_once_and_what_is_alike_once_a_minute() -> None:
    book = Book()
    refusals = Refusals(book.record, SYSTEM_CLOCK)
    await refusals.start()
    refusals.saw("scout", "unauthorized", "no")
    await asyncio.wait_for(book.written.wait(), 5)
    for _ in range(499):
        refusals.saw("scout", "unauthorized", "no")
        await asyncio.sleep(0)
    await refusals.flush(every_s=60)
    assert book.found == [Refusal("scout", "unauthorized", "no", 1)]
    await refusals.stop()
    assert book.found[1:] == [Refusal("scout", "unauthorized", "no", 499)]


async def test_whoever_makes_up_reasons_fills_nothing() -> None:
    book = Book()
    refusals = Refusals(book.record, SYSTEM_CLOCK)
    for number in range(1000):
        refusals.saw("", "not-found", f"{number}")
    await refusals.flush()
    assert len(book.found) == 101
    assert sum(each.times for each in book.found) == 1000


async def test_a_store_that_is_away_costs_the_record_alone() -> None:
    book = Book()
    book.there = False
    refusals = Refusals(book.record, SYSTEM_CLOCK)
    refusals.saw("", "unauthorized", "no")
    await refusals.flush()
    book.there = True
    await refusals.flush()
    assert book.found == []


class SlowBook(Book):
    """It writes when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.may = asyncio.Event()

    async def record(self, found: Sequence[Refusal]) -> None:
        self.begun.set()
        await self.may.wait()
        await super().record(found)


async def test_what_is_being_written_is_waited_for_and_not_cut_off() -> None:
    book = SlowBook()
    refusals = Refusals(book.record, SYSTEM_CLOCK)
    await refusals.start()
    refusals.saw("scout", "unauthorized", "no")
    await asyncio.wait_for(book.begun.wait(), 5)
    flushing, stopping = asyncio.ensure_future(refusals.flush()), asyncio.ensure_future(refusals.stop())
    await asyncio.wait([flushing, stopping], timeout=0.05)
    assert not flushing.done()
    assert not stopping.done()
    book.may.set()
    await asyncio.wait_for(asyncio.gather(flushing, stopping), 5)
    assert book.found == [Refusal("scout", "unauthorized", "no", 1)]
