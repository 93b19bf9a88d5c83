"""Threads for steps that are ordinary functions.

The threads are daemons and can be given up: a step that hangs keeps its thread, but neither holds up the others
nor the end of the process, and what it returns late goes nowhere.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

_IDLE_S = 10.0

_Job = tuple[contextvars.Context, Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Threads:
    """Runs functions in threads; idle threads are used again and end after a while."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._made = 0

    def run(self, work: Callable[[], Any], context: contextvars.Context) -> asyncio.Future[Any]:
        """Call ``work`` in a thread. Cancelling the future gives the thread up."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            fresh = self._idle == 0
            self._idle -= 0 if fresh else 1
            self._made += fresh
        self._jobs.put((context, work, loop, future))
        if fresh:
            threading.Thread(target=self._serve, name=f"relit-step-{self._made}", daemon=True).start()
        return future

    def stop(self) -> None:
        """Let idle threads end."""
        with self._lock:
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            context, work, loop, future = job
            try:
                outcome: tuple[Any, BaseException | None] = (context.run(work), None)
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the step, not to this thread
                outcome = (None, error)
            del context, work, job
            with self._lock:
                self._idle += 1
            _deliver(loop, future, outcome)
            del outcome, future, loop

    def _next(self) -> _Job | None:
        try:
            return self._jobs.get(timeout=_IDLE_S)
        except queue.Empty:
            with self._lock:
                if self._idle > 0:
                    self._idle -= 1
                    return None
            return self._jobs.get()  # a job was promised to this thread between the two


def _deliver(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], outcome: tuple[Any, BaseException | None]
) -> None:
    def set_result() -> None:
        if future.done():
            return  # given up
        value, error = outcome
        if error is None:
            future.set_result(value)
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError("the step raised StopIteration"))
        else:
            future.set_exception(error)

    try:
        loop.call_soon_threadsafe(set_result)
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more
