"""Serving an application in the caller's loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from relit.errors import ConfigError
from relit.lib.service import Tasks

_GRACE = 2  # seconds that answers in progress get before they are cut off
_BACKLOG = 1024


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (the caller has its own) and without its ten wake-ups a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.end = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.end.wait()
        await self._stop_accepting()

    async def _stop_accepting(self) -> None:
        """asyncio forgets, open, what it has accepted but not handed on when a server closes: its caller would wait
        for ever. So nothing more is accepted, and two turns of the loop later uvicorn knows of every connection."""
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for listening in server.sockets:
                loop.remove_reader(listening.fileno())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ApiServer:
    """Listens and serves. ``port`` 0 takes a free one (see ``port`` after ``start``); ``path``: a unix socket instead.

    ``closing`` is called when the server begins to stop, and must end what would wait for ever. ``on_error`` hears of
    the end that nobody asked for.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 7717,
        *,
        path: Path | None = None,
        closing: Callable[[], None] = lambda: None,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._app = app
        self._host = host
        self.port = port
        self._path = path
        self._closing = closing
        self._tasks = Tasks(on_error or self._note)
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    def _note(self, error: BaseException) -> None:
        self.failure = error

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self._host, self._host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen; back when requests are answered. Raises ``ConfigError`` when the address cannot be had."""
        listening = self._listen()
        config = uvicorn.Config(
            self._app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Server(config)
        self._task = self._tasks.spawn(self._server.serve(sockets=[listening]), "api-server")
        up = self._server.up
        self._task.add_done_callback(lambda _: up.set())  # so that nobody waits for a start that failed
        await up.wait()
        if self._task.done():
            await self._task

    def _listen(self) -> socket.socket:
        if self._path is not None:
            return listen_unix(self._path)
        listening = listen(self._host, self.port)
        self.port = int(listening.getsockname()[1])
        return listening

    async def stop(self) -> None:
        """Take no more requests, end the streams, let answers in progress finish. Safe twice."""
        server, self._server = self._server, None
        if server is None or self._task is None:
            return
        self._closing()
        server.should_exit = True
        server.end.set()
        await asyncio.wait([self._task])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ``ConfigError``."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot(host, port, error) from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise _cannot(host, port, error) from error
    return made


def listen_unix(path: Path) -> socket.socket:
    """A listening socket in the file system, for its owner alone. What a dead process left there goes away; the
    caller knows that no other one lives. However long the path is."""
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        place = f"/proc/self/fd/{folder}/{path.name}"
        made.bind(place)
        os.chmod(place, 0o600)
        made.listen(_BACKLOG)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    finally:
        os.close(folder)
    return made


def _cannot(host: str, port: int, error: OSError) -> ConfigError:
    what = f"cannot listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            what,
            why="another program has the port, perhaps a relit that runs already",
            fix=f"relit ps shows whether it is relit; ss -ltnp 'sport = :{port}' names it; "
            "or set another server.listen in relit.toml",
        )
    if error.errno == errno.EACCES:
        return ConfigError(what, why="ports below 1024 need rights", fix="set server.listen to a port from 1024 up")
    return ConfigError(
        what, why=error.strerror or str(error), fix="set server.listen to an address of this machine, as 127.0.0.1:7717"
    )
