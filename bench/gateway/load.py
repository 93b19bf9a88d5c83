"""Clients of everybody, on bare asyncio: they call, and note when what came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

_DONE = b"0\r\n\r\n"
LIMIT_S = 60


class Door(NamedTuple):
    """Where somebody is called, and with which token."""

    url: str
    path: str
    token: str = "none"

    def request(self, body: bytes) -> bytes:
        """A call, as an agent's client sends it."""
        lines = [
            f"POST {self.path}/chat/completions HTTP/1.1",
            f"Host: {urlsplit(self.url).netloc}",
            f"Authorization: Bearer {self.token}",
            "Content-Type: application/json",
            "Accept: text/event-stream",
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Heard(NamedTuple):
    """An answer, in seconds: until all of it was there, until its first chunk, the longest pause inside."""

    took: float
    first: float
    pause: float
    replayed: bool


class Connection(asyncio.Protocol):
    """Kept alive; one call at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Heard] | None = None
        self._data = bytearray()
        self._length = 0
        self._began = self._first = self._last = self._pause = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(f"cut off after {bytes(self._data[-300:])!r}"))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._data += data
        if not self._first:
            self._headed(now)
        else:
            self._pause = max(self._pause, now - self._last)
        self._last = now
        if len(self._data) == self._length or (not self._length and self._data.endswith(_DONE)):
            self._over(now)

    def _headed(self, now: float) -> None:
        """What came before the first chunk's first byte is no pause."""
        head, end, rest = bytes(self._data).partition(b"\r\n\r\n")
        if not end or not rest:
            return
        _, told, length = head.lower().partition(b"\r\ncontent-length:")
        self._length = len(head) + 4 + int(length.split(b"\r\n", 1)[0]) if told else 0
        self._first = now

    def _over(self, now: float) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._heard(now))

    def _heard(self, now: float) -> Heard:
        replayed = b"x-relit-replayed" in self._data[:2000].lower()
        return Heard(now - self._began, self._first - self._began, self._pause, replayed)

    async def call(self, request: bytes) -> Heard:
        """RuntimeError for an answer that is none."""
        assert self._transport is not None, "it is connected"
        self._waiting = self._loop.create_future()
        self._data = bytearray()
        self._length, self._first, self._pause, self._began = 0, 0.0, 0.0, time.perf_counter()
        self._transport.write(request)
        async with asyncio.timeout(LIMIT_S):
            heard = await self._waiting
        if not self._data.startswith(b"HTTP/1.1 200 ") or not self._whole():
            raise RuntimeError(f"a call was not answered: {bytes(self._data[:600])!r}")
        return heard

    def _whole(self) -> bool:
        return b"data: [DONE]" in self._data[-200:] or b'"chat.completion"' in self._data

    def close(self) -> None:
        """It is over."""
        if self._transport is not None:
            self._transport.close()


async def connected(url: str) -> Connection:
    """One more."""
    host, _, port = urlsplit(url).netloc.partition(":")
    _, made = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
    return made


Body = Callable[[int, int], bytes]
"""What connection and call of these numbers ask."""


class Crowd(NamedTuple):
    """A connection through each door."""

    doors: Sequence[Door]
    connections: Sequence[Connection]
    body: Body

    async def call(self, number: int, count: int) -> Heard:
        """By one of them."""
        return await self.connections[number].call(self.doors[number].request(self.body(number, count)))

    def close(self) -> None:
        """All go."""
        for each in self.connections:
            each.close()


async def crowd(doors: Sequence[Door], body: Body) -> Crowd:
    """All connected."""
    return Crowd(doors, [await connected(each.url) for each in doors], body)


async def for_a_while(here: Crowd, seconds: float, spread_s: float, chance: Random) -> tuple[list[Heard], float]:
    """Everybody calls again and again until the time is over; answers what was heard, and how long all took."""
    began = time.perf_counter()
    until, heard = began + spread_s + seconds, list[Heard]()

    async def one(number: int) -> None:
        await asyncio.sleep(chance.random() * spread_s)
        count = 0
        while time.perf_counter() < until:
            heard.append(await here.call(number, count))
            count += 1

    await asyncio.gather(*(one(number) for number in range(len(here.doors))))
    return heard, time.perf_counter() - began


async def once_each(here: Crowd, ramp_s: float) -> list[Heard]:
    """One call through each door, begun one after the other."""

    async def one(number: int) -> Heard:
        await asyncio.sleep(ramp_s * number / len(here.doors))
        return await here.call(number, 0)

    return await asyncio.gather(*(one(number) for number in range(len(here.doors))))
