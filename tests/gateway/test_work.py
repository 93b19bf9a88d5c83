"""A call under way: what it writes down is never cut short."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from relit.gateway.entry import Ending, Entry
from relit.gateway.work import Work


class Page:
    """An entry whose end takes as long as ``go`` lets it."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.ends: list[Ending] = []

    async def end(self, state: Ending, why: str = "") -> None:
        self.begun.set()
        await self.go.wait()
        self.ends.append(state)


async def opened(page: Page) -> Entry:
    page.begun.set()
    await page.go.wait()
    return cast(Entry, page)


async def outcome(task: asyncio.Task[Any]) -> str:
    await asyncio.wait([task])
    return "cancelled" if task.cancelled() else str(task.result())


async def test_a_call_that_is_cancelled_while_it_is_written_down_is_known_as_written() -> None:
    page, work = Page(), Work()

    async def doing() -> None:
        await work.open(opened(page))
        work.check()

    task = work.start(doing())
    await page.begun.wait()
    work.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    page.go.set()
    assert await outcome(task) == "cancelled"
    assert work.entry is cast(Entry, page)


async def test_an_end_is_written_before_a_cancellation_is_heard() -> None:
    page, work = Page(), Work()
    work.entry = cast(Entry, page)
    task = work.start(work.end("done"))
    await page.begun.wait()
    work.cancel()
    page.go.set()
    assert await outcome(task) == "cancelled"
    assert page.ends == ["done"]


async def test_else_it_is_cancelled_at_once() -> None:
    work = Work()
    task = work.start(asyncio.Event().wait())
    await asyncio.sleep(0)
    work.cancel()
    assert await outcome(task) == "cancelled"


async def test_a_refusal_leaves_nothing_to_be_ended() -> None:
    async def refused() -> Entry:
        raise ValueError("no room")

    work = Work()
    with pytest.raises(ValueError, match="no room"):
        await work.open(refused())
    await work.end("failed")
    work.cancel()
    work.check()
