"""A front: an address at which an agent's own port is reached, also while the agent makes room for others.

Bytes are passed on as they are. The first of them wakes who was parked, and its caller is held until the port answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Protocol

from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.service import Tasks

_LOG = logging.getLogger(__name__)
FIRST_S = 1.0  # who says nothing for so long waits for the other side to begin
PATIENCE_S = 300.0  # a start waits for room, and then takes its time
AGAIN_S = 0.1  # between tries while its port does not answer
QUIET_S = 120.0  # so long after a byte a connection is still in use: an answer may have pauses
LOOK_S = 1.0
LISTEN_S = 5.0  # between tries to listen where somebody else does
_PIECE = 64 << 10
_HTTP = re.compile(rb"[A-Z]+ [^ \r\n]+ HTTP/1\.[01]\r\n")


class Resident(Protocol):
    """The agent behind a front. All of this is cheap, and may be called at any time."""

    def rests(self) -> bool:
        """Whether it makes room now."""

    def wake(self) -> None:
        """It is wanted: it goes on, or starts as soon as there is room."""

    def used(self) -> None:
        """It has something to do at this moment."""

    def refusal(self) -> str | None:
        """Why it will not come, however long one waits."""


class _Away(Exception):
    """Nobody is there."""


class _Passage:
    """One connection. Moments of the monotonic clock."""

    def __init__(self) -> None:
        self._moved_at = float("-inf")

    def moved(self, now: float) -> None:
        """Something came, from either side."""
        self._moved_at = now

    def busy(self, now: float) -> bool:
        return now - self._moved_at < QUIET_S


class Front:
    """One address. ``port``: the agent's own, on the loopback."""

    def __init__(
        self, listen: tuple[str, int], port: int, resident: Resident, *, patience_s: float = PATIENCE_S,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:  # fmt: skip
        self._listen = listen
        self._port = port
        self._resident = resident
        self._patience_s = patience_s
        self._clock = clock
        self._passages: set[_Passage] = set()
        self._callers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._tasks = Tasks(lambda error: _LOG.error("the front of port %d: %r", port, error))

    # --- service -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Where somebody else does that is said in the log, and tried again."""
        await self._open()
        self._tasks.spawn(self._look(), "front")

    async def stop(self) -> None:
        """Safe twice. Open connections end."""
        await self._tasks.stop()
        if self._server is not None:
            self._server.close()
        callers = list(self._callers)
        for each in callers:
            each.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens; ``None``: nowhere yet."""
        if self._server is None:
            return None
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def _open(self) -> None:
        try:
            self._server = await asyncio.start_server(self._called, *self._listen, limit=_PIECE)
        except OSError as error:
            _LOG.error("nobody reaches port %d: %s:%d: %s", self._port, *self._listen, error.strerror)

    async def _look(self) -> None:
        """As long as somebody waits for its answer the agent is not idle."""
        tried = self._clock.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._clock.monotonic()
            if any(each.busy(now) for each in self._passages):
                self._resident.used()
            if self._server is None and now - tried >= LISTEN_S:
                tried = now
                await self._open()

    # --- a caller ----------------------------------------------------------------------------------------------

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "it is called in one"
        passage = _Passage()
        self._callers.add(task)
        self._passages.add(passage)
        try:
            await self._bring(passage, reader, writer)
        except (OSError, EOFError):
            pass  # one of the two has hung up
        except asyncio.CancelledError:
            writer.transport.abort()  # we stop; the stream's own task must not end as cancelled
        finally:
            self._callers.discard(task)
            self._passages.discard(passage)
            writer.close()

    async def _bring(self, passage: _Passage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b""
        if self._resident.rests():
            first = await _first(reader, FIRST_S)
            if reader.at_eof() and not first:
                return  # somebody only looked whether the port is open
            self._speaks(passage)
        try:
            theirs, ours = await self._connect(passage, lambda: writer.is_closing() or (reader.at_eof() and not first))
        except _Away as away:
            await _refuse(first or await _first(reader, AGAIN_S), writer, str(away))
            return
        try:
            ours.write(first)
            await self._pass_on(passage, (reader, writer), (theirs, ours))
        finally:
            ours.close()

    async def _connect(
        self, passage: _Passage, is_gone: Callable[[], bool]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As soon as its port answers. EOFError: the caller has hung up."""
        until = self._clock.monotonic() + self._patience_s
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", self._port, limit=_PIECE)
            except OSError as error:
                if (why := self._resident.refusal()) is not None:
                    raise _Away(why) from error
                if self._clock.monotonic() > until:
                    raise _Away(f"its port did not answer in {self._patience_s:.0f} s") from error
            await asyncio.sleep(AGAIN_S)
            if is_gone():
                raise EOFError
            self._speaks(passage)

    def _speaks(self, passage: _Passage) -> None:
        passage.moved(self._clock.monotonic())
        self._resident.used()
        self._resident.wake()

    async def _pass_on(
        self, passage: _Passage, caller: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        agent: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:  # fmt: skip
        """Until the agent has said all; a caller who has may still listen."""
        async with _beside(self._up(passage, caller[0], agent[1])):
            while data := await agent[0].read(_PIECE):
                passage.moved(self._clock.monotonic())
                caller[1].write(data)
                await caller[1].drain()

    async def _up(self, passage: _Passage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_PIECE):
                self._speaks(passage)
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.transport.abort()  # the caller is gone without a word: the agent is told


@asynccontextmanager
async def _beside(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """While that goes on, too. Who does not read any more is no fault."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _first(reader: asyncio.StreamReader, within_s: float) -> bytes:
    """What the caller says; empty: nothing yet, or nothing at all."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            return await reader.read(_PIECE)
    return b""


async def _refuse(first: bytes, writer: asyncio.StreamWriter, why: str) -> None:
    """In words, to those who speak HTTP."""
    if _HTTP.match(first):
        body = f"The agent behind this address is not there: {why}\n".encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 10\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
