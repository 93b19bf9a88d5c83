"""A scripted model on the loopback, on bare asyncio: ``python -m bench.gateway.upstream`` prints its address.

How it answers stands in the path, so that one process plays every model: see ``Script``. It keeps to its schedule,
whatever became of the chunk before: a chunk that is late makes the next one no later. ``GET /heard`` tells how many
requests came.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

HEAD = b"HTTP/1.1 200 OK\r\nServer: scripted\r\nContent-Type: "
EVENTS = HEAD + b"text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
_ID = b'{"id":"chatcmpl-1","object":"chat.completion%b","created":1700000000,"model":"m",'
_USED = b'"usage":{"prompt_tokens":20,"completion_tokens":20,"total_tokens":40}}'
_BEGIN = b"data: " + _ID % b".chunk"
CHUNK = (
    _BEGIN
    + b'"choices":[{"index":0,"delta":{"role":"assistant","content":"a word or two "},"finish_reason":null}]}\n\n'
)
_LAST = _BEGIN + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
_COUNT = _BEGIN + b'"choices":[],' + _USED + b"\n\n"
_MESSAGE = b'"choices":[{"index":0,"message":{"role":"assistant","content":"a word or two "},"finish_reason":"stop"}],'
WHOLE = _ID % b"" + _MESSAGE + _USED


class Script(NamedTuple):
    """So many chunks, the first one after ``first_ms``, then one each ``every_ms``."""

    chunks: int
    first_ms: int = 0
    every_ms: int = 0

    @property
    def path(self) -> str:
        """What stands before ``/v1``."""
        return f"/{self.chunks}-{self.first_ms}-{self.every_ms}"

    @property
    def seconds(self) -> float:
        """How long an answer takes."""
        return (self.first_ms + (self.chunks - 1) * self.every_ms) / 1000


def script_of(path: str) -> Script:
    """The script that a path names."""
    return Script(*(int(word) for word in path.split("/")[1].split("-")))


def framed(*events: bytes) -> bytes:
    """In HTTP's chunks, one each."""
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in events)


PIECE = framed(CHUNK)
END = framed(_LAST, _COUNT, b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Model(asyncio.Protocol):
    """One connection, kept alive."""

    heard = 0  # by all of them

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, rest = self._got.partition(b"\r\n\r\n")
        if end and len(rest) >= (length := _length(head)):
            self._got = rest[length:]
            self._answer(head.split(b" ", 2)[1].decode(), rest[:length])

    def _answer(self, path: str, body: bytes) -> None:
        if path == "/heard":
            self._send(_plain(b"%d" % Model.heard))
            return
        Model.heard += 1
        if b'"stream":true' not in body.replace(b" ", b""):
            self._send(_plain(WHOLE))
            return
        script = script_of(path)
        self._send(EVENTS)
        if script.every_ms == 0 and script.first_ms == 0:
            self._all(script)
        else:
            self._next(script, self._loop.time() + script.first_ms / 1000, 0)

    def _all(self, script: Script) -> None:
        for _ in range(script.chunks):
            self._send(PIECE)
        self._send(END)

    def _next(self, script: Script, at: float, done: int) -> None:
        """Wait for the moment of the next chunk."""
        self._timer = self._loop.call_at(at, self._say, script, at, done + 1)

    def _say(self, script: Script, at: float, done: int) -> None:
        if done == script.chunks:
            self._send(PIECE + END)
        else:
            self._send(PIECE)
            self._next(script, at + script.every_ms / 1000, done)

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


def _plain(body: bytes) -> bytes:
    return HEAD + b"application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def main() -> None:
    """Serve until it is killed."""
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
