"""The agent that waits for an answer, and what becomes of the answer when it dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from socket import SO_LINGER, SOL_SOCKET

from aiohttp import HttpVersion11, web

from relit.gateway.providers import Answer
from relit.gateway.refusal import Refused
from relit.gateway.routes import Kind

_TOLD_S = 1.0
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: the connection is reset


class Listener:
    """Hears an answer. With ``recorded`` an answer goes on when nobody hears it any more: somebody else decides how
    long."""

    def __init__(self, request: web.BaseRequest, *, recorded: bool) -> None:
        self._request = request
        self._recorded = recorded
        self._gone = False
        self._last = b""
        self.stuck = False  # it does not read
        self.response: web.StreamResponse | None = None

    async def begin(self, answer: Answer) -> None:
        """Status and headers."""
        self.response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=answer.headers)
        try:
            await self.response.prepare(self._request)
        except OSError:
            if not self._recorded:
                raise
            self._gone = True

    async def hear(self, piece: bytes) -> None:
        """A piece of the body."""
        if self._gone or self.response is None:
            return
        try:
            self.stuck = True
            await self.response.write(piece)
            self.stuck, self._last = False, piece[-4:]
        except OSError:
            if not self._recorded:
                raise
            self._gone, self.stuck = True, False

    async def end(self) -> None:
        """All of it was said."""
        if not self._gone and self.response is not None:
            await self.response.write_eof()

    async def refuse(self, refused: Refused, kind: Kind) -> None:
        """Break off, and say why where that can be heard: between two events of a stream that is as it was written."""
        if (not self._last or self._last.endswith((b"\n\n", b"\r\n\r\n"))) and self._is_plain:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TOLD_S):
                    await self.hear(refused.event(kind))
        self.break_off()

    @property
    def _is_plain(self) -> bool:
        headers = self.response.headers if self.response is not None else {}
        return "Content-Length" not in headers and headers.get("Content-Encoding", "identity").lower() == "identity"

    def break_off(self) -> None:
        """That it was not all can only be shown so: by an end before the end, or where there is none by a fault."""
        if (transport := self._request.transport) is None:
            return
        if not self.stuck and self._request.version >= HttpVersion11:
            transport.close()
            return
        if (socket := transport.get_extra_info("socket")) is not None:
            socket.setsockopt(SOL_SOCKET, SO_LINGER, _AT_ONCE)
        transport.abort()
