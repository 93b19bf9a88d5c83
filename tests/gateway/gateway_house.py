"""A provider that sends any bytes at all, and a gateway before it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from relit.gateway.crowd import AT_ONCE
from relit.gateway.routes import Caller, Known, Patience, Route
from relit.gateway.server import Gateway

TOKEN = "agent-token"
KEY = "provider-key"
CHAT = "/openai/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Heard:
    """A request as it arrived."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]


Answering = Callable[[Heard, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Provider:
    """What it heard, and where it is."""

    url: str = ""
    heard: list[Heard] = field(default_factory=list)


def sends(*pieces: bytes) -> Answering:
    """Answers every request with these bytes, and ends the connection."""

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return answer


@contextmanager
def deaf() -> Iterator[str]:
    """An address to which no connection is had."""
    with socket.socket() as door, socket.socket() as first, socket.socket() as second:
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        for each in (first, second):  # a full queue: nobody else gets through
            each.setblocking(False)
            each.connect_ex(door.getsockname())
        yield f"http://127.0.0.1:{door.getsockname()[1]}/v1"


@asynccontextmanager
async def provider(answer: Answering) -> AsyncIterator[Provider]:
    """A server on loopback; each connection carries one request."""
    made = Provider()
    failures: list[BaseException] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard = await _heard(reader)
            made.heard.append(heard)
            await answer(heard, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway left
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield made
    finally:
        server.close()
    if failures:
        raise failures[0]


async def _heard(reader: asyncio.StreamReader) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
    lower = {name.lower(): value for name, value in headers}
    if lower.get("transfer-encoding") == "chunked":
        return Heard(head[0], headers, await _chunks(reader))
    return Heard(head[0], headers, await reader.readexactly(int(lower.get("content-length", 0))))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    whole = b""
    while size := int(await reader.readline(), 16):
        whole += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return whole


@asynccontextmanager
async def gateway(
    url: str, patience: Patience | None = None, *, at_once: int = AT_ONCE, **route: Any
) -> AsyncIterator[Gateway]:
    """A gateway with one route, ``default``, one caller, ``scout``, and a clone of it."""
    made = Gateway(
        {"default": Route("default", url, KEY, patience=patience or Patience(), **route)},
        Known(
            [
                Caller("scout", TOKEN, "default"),
                Caller("lost", "lost-token", "nowhere"),
                Caller("scout", "clone", "default", True),
            ]
        ),
        port=0,
        at_once=at_once,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def client(gateway: Gateway, token: str = TOKEN) -> httpx.AsyncClient:
    """As an agent's own: it says who it is, and is patient."""
    return httpx.AsyncClient(
        base_url=gateway.url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=httpx.Timeout(20),
        limits=httpx.Limits(max_connections=None),
        trust_env=False,
        verify=False,  # it takes long to load what is not needed here
    )


async def health(gateway: Gateway) -> dict[str, Any]:
    """What it says of its default route."""
    async with client(gateway) as http:
        told = (await http.get("/healthz")).json()
    assert told["ok"] is True
    found: dict[str, Any] = told["routes"]["default"]
    return found
