"""Listening, and letting go."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from relit.api.server import ApiServer
from relit.errors import ConfigError

HELLO = PlainTextResponse("hello")


async def test_port_zero_takes_a_free_one() -> None:
    one, two = ApiServer(HELLO, port=0), ApiServer(HELLO, port=0)
    await one.start()
    await two.start()
    assert one.port != two.port
    async with httpx.AsyncClient(trust_env=False) as http:
        for server in (one, two):
            assert (await http.get(server.url)).text == "hello"
    await one.stop()
    await two.stop()


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    first = ApiServer(HELLO, port=0)
    await first.start()
    second = ApiServer(HELLO, port=first.port)
    with pytest.raises(ConfigError, match="another program has the port") as caught:
        await second.start()
    assert f"sport = :{first.port}" in caught.value.fix
    await second.stop()
    await first.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "999.1.1.1"])
async def test_an_address_that_is_not_ours_is_a_clear_error(host: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.listen"):
        await ApiServer(HELLO, host, 0).start()


async def test_stop_is_safe_twice_and_before_start() -> None:
    server = ApiServer(HELLO, port=0)
    await server.stop()
    await server.start()
    port = server.port
    await server.stop()
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    again = ApiServer(HELLO, port=port)
    await again.start()
    await again.stop()


@pytest.mark.parametrize("turns", range(5))
async def test_who_connects_while_it_stops_is_hung_up_on(turns: int) -> None:
    """However many turns of the loop lie between the connection and the stop."""
    server = ApiServer(HELLO, port=0)
    await server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as caller:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        try:
            assert caller.recv(1) == b""
        except ConnectionResetError:
            pass  # that says it, too


async def test_its_port_is_known_after_it_stopped() -> None:
    server = ApiServer(HELLO, port=0)
    await server.start()
    port = server.port
    await server.stop()
    assert server.port == port


async def test_ipv6() -> None:
    server = ApiServer(HELLO, "::1", 0)
    try:
        await server.start()
    except ConfigError:
        pytest.skip("no IPv6 here")
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(server.url)).text == "hello"
    await server.stop()


PROGRAM = """
import asyncio, signal, sys
from pathlib import Path
from relit.api.auth import ensure_token
from relit.api.build import build
from relit.api.parts import Parts
from relit.api.server import ApiServer
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.store.sql.sqlite.store import SqliteStore

async def main(folder):
    store = SqliteStore(folder / "relit.db")
    await store.start()
    await ensure_token(store, folder)
    parts = Parts(Engine(store, Payloads()))
    server = ApiServer(build(parts), port=int(sys.argv[2]), closing=parts.closing.close)
    await server.start()
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    print(server.port, flush=True)
    await end.wait()
    await server.stop()
    await store.stop()

asyncio.run(main(Path(sys.argv[1])))
"""


def launch(folder: Path, port: int = 0) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(port)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[tuple[subprocess.Popen[str], int]]:
    process, port = await asyncio.to_thread(launch, tmp_path)
    with process:
        yield process, port
        process.kill()


async def test_a_server_process_with_open_streams_ends_on_sigterm(
    tmp_path: Path, process: tuple[subprocess.Popen[str], int]
) -> None:
    server, port = process
    token = (tmp_path / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as http,
        http.stream("GET", "/v1/events") as response,
    ):
        chunks = response.aiter_bytes()
        await anext(chunks)
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert [chunk async for chunk in chunks] == []
    assert await asyncio.to_thread(server.wait, 5) == 0
    assert time.monotonic() - began < 2
