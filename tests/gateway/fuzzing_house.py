"""A gateway in a thread of its own, before a provider that takes only what the standard allows: for blocking tests."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h11
from gateway_house import KEY
from watched_house import watched

SILENCE = 0.05  # seconds without a byte: nothing more is coming
SMUGGLED = "smuggled"  # in the path of requests that carry no token of an agent


@dataclass
class Strict:
    """A provider. ``faults``: what it got that is no request, or none that the gateway may send."""

    url: str = ""
    heard: int = 0
    faults: list[str] = field(default_factory=list)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        parser = h11.Connection(h11.SERVER)
        try:
            while await self._answered(parser, reader, writer):
                parser.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if parser.trailing_data != (b"", True) or "peer unexpectedly closed" not in str(error):
                self.faults.append(f"{error}: {parser.trailing_data[0][:200]!r}")
        except ConnectionError:
            pass  # the gateway left
        finally:
            writer.close()

    async def _answered(
        self, parser: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether a request came, and another may follow."""
        method = b""
        while True:
            match parser.next_event():
                case h11.NEED_DATA:
                    parser.receive_data(await reader.read(1 << 16))
                case h11.Request() as event:
                    method = event.method
                    self._judge(event)
                case h11.EndOfMessage():
                    break
                case h11.ConnectionClosed():
                    return False
        self.heard += 1
        body = b"" if method == b"HEAD" else b"{}"
        head = h11.Response(status_code=200, headers=[("Content-Length", "2"), ("Content-Type", "application/json")])
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(parser.send(event) or b"")
        await writer.drain()
        return parser.our_state is h11.DONE

    def _judge(self, event: h11.Request) -> None:
        keys = [value for name, value in event.headers if name in (b"authorization", b"x-api-key")]
        hosts = [value for name, value in event.headers if name == b"host"]
        wrong = {
            "path": not event.target.startswith(b"/v1/") or SMUGGLED.encode() in event.target,
            "key": keys != [b"Bearer " + KEY.encode()],
            "host": hosts != [self.url.split("/")[2].encode()],
        }
        self.faults += [f"{name}: {event!r}" for name, found in wrong.items() if found]


class Running:
    """``port`` is the gateway's."""

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self.provider = Strict()
        self._folder = folder
        self._ready = threading.Event()
        self._thread = ThreadPoolExecutor(1)

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.provider.take, "127.0.0.1", 0)
        self.provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server, watched(self.provider.url, self._folder, also=("/files",)) as seen:
            self.port = int(seen.here.url.rpartition(":")[2])
            self._ready.set()
            await self._over.wait()

    def start(self) -> None:
        """Back when calls are answered."""
        self._done = self._thread.submit(asyncio.run, self._main())
        self._done.add_done_callback(lambda _: self._ready.set())
        self._ready.wait(20)
        if self._done.done():
            self._done.result()

    def stop(self) -> None:
        """Raises what the gateway left behind."""
        if not self._done.done():
            self._loop.call_soon_threadsafe(self._over.set)
        self._done.result(30)
        self._thread.shutdown()

    def answers(self, sent: bytes, silence: float = SILENCE) -> tuple[bytes, bool]:
        """All that comes back, until the connection ends (``True``) or there is silence."""
        pieces = []
        with socket.create_connection(("127.0.0.1", self.port)) as here:
            here.settimeout(silence)
            try:
                here.sendall(sent)
                while piece := here.recv(1 << 16):
                    pieces.append(piece)
            except TimeoutError:
                return b"".join(pieces), False
            except ConnectionError:
                pass  # cut
        return b"".join(pieces), True


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    made = Running(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()
