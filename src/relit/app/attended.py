"""The server's way to the process that keeps the volumes. A restore may take an hour; a process that hangs must not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from relit.api.volumes_port import Volumes
from relit.app.folder import VOLUMES_SOCKET
from relit.client import Client

_PATIENCE_S = 5.0  # while it is not there; who asks the server has a patience of its own
_LOOK_S = 5.0
_SILENT = 3  # looks in a row without an answer


@asynccontextmanager
async def keeper_of_volumes(place: Path, token: str, *, look_s: float = _LOOK_S) -> AsyncIterator[Volumes]:
    """The process that keeps this machine's volumes, asked over its socket in the folder ``place``."""
    await asyncio.to_thread(place.mkdir, mode=0o700, exist_ok=True)
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # however long its name is
    try:
        transport = Attended(httpx.AsyncHTTPTransport(uds=f"/proc/self/fd/{folder}/{VOLUMES_SOCKET}"), look_s)
        async with Client("http://localhost", token, patience=_PATIENCE_S, transport=transport) as client:
            yield client.volumes
    finally:
        os.close(folder)


class Attended(httpx.AsyncBaseTransport):
    """Waits for an answer however long it takes while the other side lives: every ``look_s`` seconds it is asked that.
    Raises ReadTimeout when it gave no sign of life several times."""

    def __init__(self, inner: httpx.AsyncBaseTransport, look_s: float) -> None:
        self._inner = inner
        self._look_s = look_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and wait for the answer's beginning."""
        try:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(self._look())
                response = await self._inner.handle_async_request(request)
                looking.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return response

    async def _look(self) -> None:
        silent = 0
        while silent < _SILENT:
            await asyncio.sleep(self._look_s)
            silent = 0 if await self._lives() else silent + 1
        raise httpx.ReadTimeout(f"it is there, and gave no sign of life for {2 * _SILENT * self._look_s:g} s")

    async def _lives(self) -> bool:
        try:
            async with asyncio.timeout(self._look_s):
                response = await self._inner.handle_async_request(httpx.Request("GET", "http://localhost/healthz"))
                await response.aclose()
        except (TimeoutError, httpx.HTTPError):
            return False
        return True

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
