"""Lifecycle of long-lived objects, and the one place where tasks are made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
OnFailure = Callable[[BaseException], None]


class Service(Protocol):
    """Something that runs for a while. ``stop`` is safe twice, and before ``start``."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def reporting(log: logging.Logger, what: str, then: OnFailure | None) -> OnFailure:
    """An ``on_error`` for ``Tasks`` that logs ``what`` and passes the failure on.

    A loop that ended by an unforeseen error must not leave a process that looks alive and does nothing: ``then``
    ends it, and whoever keeps it starts it afresh.
    """

    def report(error: BaseException) -> None:
        log.error("%s failed", what, exc_info=error)
        if then is not None:
            then(error)

    return report


async def finished(work: Coroutine[Any, Any, T], hurry: Callable[[], None] = lambda: None) -> T:
    """Bring ``work`` to its end, also when the caller is cancelled meanwhile: a thread goes on whatever becomes of
    who waits for it. ``hurry`` is called at a cancellation, which is raised when the work is done."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        hurry()
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen
        raise


class Tasks:
    """Background tasks owned by one service: a failure is handed to ``on_error``, ``stop`` cancels and awaits all.

    A TaskGroup fits a scope; this fits an object with ``start`` and ``stop``.
    """

    def __init__(self, on_error: OnFailure) -> None:
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)

    async def stop(self) -> None:
        """Cancel every task and wait until each has ended."""
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
