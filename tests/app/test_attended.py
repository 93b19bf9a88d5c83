"""The server's way to the process that keeps the volumes: one that is slow is waited for, one that hangs is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relit.app.attended import keeper_of_volumes
from relit.app.folder import VOLUMES_SOCKET
from relit.control.values import Probe, over_unix
from relit.errors import ServerUnreachable
from relit.node import probe

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


class Keeper:
    """What answers on the socket. ``hangs``: takes connections, and says nothing; ``slow``: until ``answer`` is set."""

    def __init__(self) -> None:
        self.hangs = False
        self.answer = asyncio.Event()
        self.looks = 0
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                await reader.readuntil(b"\r\n\r\n")
                if self.hangs:
                    await asyncio.Event().wait()
                if b"/healthz" in line:
                    self.looks += 1
                    body = b"{}"
                else:
                    self.asked.set()
                    await self.answer.wait()
                    body = b'{"volumes": []}'
                writer.write(OK % (len(body), body))
        finally:
            writer.close()


@asynccontextmanager
async def listening(place: Path) -> AsyncIterator[Keeper]:
    keeper = Keeper()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await keeper.serve(reader, writer)

    server = await asyncio.start_unix_server(serve, place / VOLUMES_SOCKET)
    try:
        yield keeper
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def test_a_long_answer_is_waited_for_while_the_process_lives(tmp_path: Path) -> None:
    async with listening(tmp_path) as keeper, keeper_of_volumes(tmp_path, "t", look_s=0.05) as volumes:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(volumes.list())
            await keeper.asked.wait()
            while keeper.looks < 10:
                await asyncio.sleep(0.01)
            keeper.answer.set()
        assert asking.result().volumes == []


async def test_a_process_that_hangs_is_told_and_not_waited_for(tmp_path: Path) -> None:
    async with listening(tmp_path) as keeper, keeper_of_volumes(tmp_path, "t", look_s=0.05) as volumes:
        keeper.hangs = True
        with pytest.raises(ServerUnreachable, match="gave no sign of life") as told:
            await volumes.rebuild()
        assert told.value.arrived


async def test_a_process_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with keeper_of_volumes(tmp_path, "t") as volumes:
        with pytest.raises(ServerUnreachable) as told:
            await volumes.rebuild()
        assert not told.value.arrived


async def test_a_probe_over_a_unix_socket_wants_an_answer_and_not_only_a_connection(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 40)  # longer than the kernel takes for a socket's path
    deep.mkdir()
    question = Probe(kind="http", target=over_unix(deep / VOLUMES_SOCKET, "/healthz"), timeout_ms=300)
    assert await probe.ask(question) is not None
    folder = deep.parent / "s"
    folder.symlink_to(deep)
    async with listening(folder) as keeper:
        assert await probe.ask(question) is None
        keeper.hangs = True
        assert await probe.ask(question) == "no answer in 300 ms"
