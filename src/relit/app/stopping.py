"""Services started in order and stopped in reverse, by a signal or by the failure of one of them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from relit.lib.service import Service

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Somebody wants an end: a signal, or a service that failed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._failure: BaseException | None = None
        self.signal: signal.Signals | None = None

    def fail(self, error: BaseException) -> None:
        """End because of ``error``."""
        self._failure = self._failure or error
        self._event.set()

    def ask(self, number: signal.Signals | None = None) -> None:
        """End in good order."""
        self.signal = number
        self._event.set()

    async def wait(self) -> None:
        """Until somebody wants the end. Raises what failed."""
        await self._event.wait()
        if self._failure is not None:
            raise self._failure


@asynccontextmanager
async def until_signal(signals: Sequence[signal.Signals] = SIGNALS) -> AsyncIterator[Stop]:
    """Turn them (SIGTERM and SIGINT) into an orderly stop. A second one ends the process the hard way."""
    stop, loop = Stop(), asyncio.get_running_loop()

    def caught(number: signal.Signals) -> None:
        stop.ask(number)
        for each in signals:
            loop.remove_signal_handler(each)  # from now on the default holds

    for number in signals:
        loop.add_signal_handler(number, caught, number)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def running(services: Sequence[Service], began: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Start each in order; stop each in reverse, whatever happens."""
    started: list[Service] = []
    try:
        for service in services:
            started.append(service)  # one that fails in the middle of its start is stopped as well
            await service.start()
        began()
        yield
    finally:
        for service in reversed(started):
            await service.stop()
