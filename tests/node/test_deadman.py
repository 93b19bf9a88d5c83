"""The ping that says that relit lives stops when nobody could tell of its troubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_house import Bell, Server, rings, running, spec

from relit.control.values import InstanceState, Probe
from relit.lib.clock import SystemClock
from relit.node.client import KeeperClient
from relit.node.deadman import MUTE_S, DeadMan


class Later(SystemClock):
    """The machine's, and this much later."""

    by_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.by_s


class Outside:
    """Who is told."""

    def __init__(self) -> None:
        self.pings = asyncio.Semaphore(0)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        self.pings.release()


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
async def ping(outside: Outside) -> AsyncIterator[Probe]:
    there = await asyncio.start_server(outside.answer, "127.0.0.1", 0)
    port = there.sockets[0].getsockname()[1]
    yield Probe(kind="http", target=f"http://127.0.0.1:{port}/alive", every_ms=10)
    there.close()
    await there.wait_closed()


async def until_mute(deadman: DeadMan) -> None:
    async with asyncio.timeout(20):
        while not deadman.trouble:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("away", ["down", "backing-off", "draining", "starting"])
async def test_it_stops_when_the_server_was_away_for_long_and_comes_again_with_it(
    outside: Outside, ping: Probe, away: InstanceState
) -> None:
    state: InstanceState = "ready"
    clock = Later()
    deadman = DeadMan(ping, lambda: state, clock)
    telling = asyncio.ensure_future(deadman.run())
    async with asyncio.timeout(20):
        await outside.pings.acquire()
        state = away
        deadman.look()
        await outside.pings.acquire()
        await outside.pings.acquire()  # a short while is nothing
    clock.by_s = MUTE_S
    await until_mute(deadman)
    state = "ready"
    outside.pings = asyncio.Semaphore(0)
    async with asyncio.timeout(20):
        await outside.pings.acquire()
        await outside.pings.acquire()
    assert deadman.trouble == ""
    telling.cancel()


async def test_a_server_that_was_ready_in_between_is_not_away_for_long(outside: Outside, ping: Probe) -> None:
    state: InstanceState = "starting"
    clock = Later()
    deadman = DeadMan(ping, lambda: state, clock)
    deadman.look()
    clock.by_s = MUTE_S
    state = "ready"
    deadman.look()
    state = "starting"
    deadman.look()
    telling = asyncio.ensure_future(deadman.run())
    async with asyncio.timeout(20):
        await outside.pings.acquire()
    telling.cancel()


async def test_a_node_whose_server_cannot_live_does_not_say_that_all_is_well(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, outside: Outside, ping: Probe
) -> None:
    clock = Later()
    specs = [spec("server", rings(bell)), spec("web", rings(bell))]
    async with running(keeper, run_dir, server, specs, ping=ping, speaker="server", clock=clock) as node:
        async with asyncio.timeout(20):
            await outside.pings.acquire()
        broken = spec("server", ["/no/such/program"])
        await node.apply([broken, specs[1]])
        await server.saw("instance.restarting", instance="server")
        clock.by_s += MUTE_S
        assert node.deadman is not None
        await until_mute(node.deadman)
