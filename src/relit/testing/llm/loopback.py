"""An ASGI application on a port of this machine, in the caller's loop."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from relit.testing.llm.line import Connection


class Loopback:
    """uvicorn's connections without its ``Server``, which takes signals for itself and 0.1 s to stop.

    ``port`` 0 takes a free one, and keeps it; ``url`` is right after ``start``.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._config = uvicorn.Config(
            app, interface="asgi3", http=Connection, ws="none", lifespan="off", proxy_headers=False, log_config=None,
            access_log=False,
        )  # fmt: skip
        self._port = port
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen. Raises ``OSError``."""
        listening = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=listening)

    def _connection(self) -> Connection:
        return Connection(self._config, self._state)

    async def stop(self) -> None:
        """End all connections, and wait until the application has noticed. Safe twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        connections = [each for each in self._state.connections if isinstance(each, Connection)]
        for connection in connections:
            connection.transport.abort()
        for connection in connections:
            await connection.lost.wait()
        if self._state.tasks:
            await asyncio.wait([*self._state.tasks])
        await server.wait_closed()
