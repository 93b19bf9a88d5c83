"""The connection that a request came by, which can be cut."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from relit.testing.llm.reply import Reply

_TRANSPORT = "relit.transport"


class Connection(H11Protocol):
    """uvicorn's, which tells the application its transport besides. ``lost`` is set when it has ended."""

    def __init__(self, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}


async def never() -> None:
    """Not back before it is cancelled."""
    await asyncio.Event().wait()


class Line:
    """One answer's way to its client. Once the connection has ended nothing is sent, and what would send waits to be
    cancelled: ``gone`` tells."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._transport: asyncio.Transport = scope["state"][_TRANSPORT]
        self._receive = receive
        self._send = send
        self.cut = False

    async def begin(self, reply: Reply) -> None:
        """Send the status and the headers."""
        headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        await self._pass({"type": "http.response.start", "status": reply.status, "headers": headers})

    async def put(self, piece: bytes) -> None:
        """Send a piece of the body."""
        await self._pass({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """The answer is whole."""
        await self._pass({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass(self, message: Message) -> None:
        if self._transport.is_closing():
            await never()
        await self._send(message)

    def close(self) -> None:
        """Cut it, when what was sent is on its way."""
        self.cut = True
        self._transport.close()

    async def gone(self) -> None:
        """Back when the client has left, or the connection was cut."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
