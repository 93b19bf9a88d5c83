"""A call to a service is one request, whatever the service does with its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relit.gateway.tools.base import Tool, Unsure, text
from relit.gateway.tools.http import HttpTools
from relit.gateway.tools.plan import HttpTool
from relit.store.tools import Effect, ToolCall

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Sink:
    """Answers the first request on each connection; does what the next one asks, and hangs up."""

    def __init__(self, answer: bytes = OK) -> None:
        self._answer = answer
        self.heard: list[str] = []
        self.ways = 0
        self.mute_from = 2  # the request from which on nothing is answered

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ways += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heard.append(head.split("\r\n")[0])
                if len(self.heard) >= self.mute_from:
                    return
                writer.write(self._answer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()


@asynccontextmanager
async def tool(sink: Sink, method: str, effect: Effect) -> AsyncIterator[HttpTools]:
    server = await asyncio.start_server(sink, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/x"
    made = HttpTools([HttpTool(tool=Tool("drop", effect=effect), url=url, method=method, private=True)])
    async with server:
        yield made
        await made.stop()


def call(effect: Effect) -> ToolCall:
    return ToolCall(id="1", agent="a", tool="drop", effect=effect, hash="h", key="k")


@pytest.mark.parametrize("method", ["DELETE", "PUT", "POST"])
async def test_a_write_whose_connection_breaks_is_sent_once_and_in_doubt(method: str) -> None:
    sink = Sink()
    async with tool(sink, method, "ask") as tools:
        assert not (await tools.send(call("ask"), {})).failed
        with pytest.raises(Unsure):
            await tools.send(call("ask"), {})
    assert len(sink.heard) == 2, "one request for each call"


@pytest.mark.parametrize(("effect", "ways"), [("ask", 3), ("lookup", 3), ("read", 1), ("native-key", 1)])
async def test_what_must_not_be_sent_twice_has_a_connection_of_its_own(effect: Effect, ways: int) -> None:
    """One that was kept may break before it is heard: nobody would know."""
    sink = Sink()
    sink.mute_from = 9
    async with tool(sink, "PUT", effect) as tools:
        for _ in range(3):
            await tools.send(call(effect), {})
    assert sink.ways == ways


@pytest.mark.parametrize(
    ("status", "failed"), [(302, False), (303, False), (304, False), (301, True), (307, True), (308, True)]
)
async def test_a_write_that_leads_elsewhere_is_done_unless_it_was_wanted_there(status: int, failed: bool) -> None:
    sink = Sink(b"HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:1/made/7\r\nContent-Length: 0\r\n\r\n" % status)
    async with tool(sink, "POST", "ask") as tools:
        outcome = await tools.send(call("ask"), {})
    assert outcome.failed == failed
    assert outcome.content == text(f"HTTP status {status}, leads to http://127.0.0.1:1/made/7").content
    assert len(sink.heard) == 1, "nobody follows"
