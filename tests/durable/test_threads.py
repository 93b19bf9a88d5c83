"""Threads for ordinary functions: used again, given up, never in the way."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from relit.durable.threads import Threads

VALUE: contextvars.ContextVar[int] = contextvars.ContextVar("value", default=0)


async def test_results_and_errors_come_back() -> None:
    threads = Threads()
    context = contextvars.copy_context()
    assert await threads.run(lambda: 7, context) == 7

    def fails() -> None:
        raise KeyError("k")

    def stops() -> None:
        raise StopIteration

    with pytest.raises(KeyError):
        await threads.run(fails, context)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(stops, context)
    threads.stop()


async def test_an_idle_thread_is_used_again() -> None:
    threads = Threads()
    context = contextvars.copy_context()
    first = await threads.run(threading.get_ident, context)
    assert await threads.run(threading.get_ident, context) == first
    threads.stop()


async def test_the_context_comes_along() -> None:
    threads = Threads()
    VALUE.set(5)
    assert await threads.run(VALUE.get, contextvars.copy_context()) == 5
    threads.stop()


async def test_a_thread_that_hangs_holds_up_nobody() -> None:
    threads, hang = Threads(), threading.Event()
    context = contextvars.copy_context()
    stuck = threads.run(hang.wait, context)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(threads.run(lambda i=i: i, contextvars.copy_context()) for i in range(5))) == [
            0, 1, 2, 3, 4,
        ]  # fmt: skip
    stuck.cancel()
    hang.set()
    assert await threads.run(lambda: "fine", contextvars.copy_context()) == "fine"
    assert stuck.cancelled()
    threads.stop()
