"""Connections to an agent's own port: passed on as they are, and whoever was parked is woken by the first byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from relit.turns import front
from relit.turns.front import Front


class Sleeper:
    """An agent whose port is open only while it is awake: it says in capitals what it hears."""

    def __init__(self) -> None:
        self.parked = False
        self.starts = True
        self.why: str | None = None
        self.uses = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._heard, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._starting is not None:
            await self._starting
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _heard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data.upper())
        writer.close()

    def rests(self) -> bool:
        return self.parked

    def wake(self) -> None:
        if self.parked:
            self.parked = False
            if self.starts:
                self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        await asyncio.sleep(0.3)
        await self.open()

    def used(self) -> None:
        self.uses += 1

    def refusal(self) -> str | None:
        return self.why


@pytest.fixture
async def sleeper() -> AsyncIterator[Sleeper]:
    made = Sleeper()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def door(sleeper: Sleeper) -> AsyncIterator[tuple[str, int]]:
    made = Front(("127.0.0.1", 0), sleeper.port, sleeper, patience_s=1.0)
    await made.start()
    assert made.address is not None
    yield made.address
    await made.stop()


async def said(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read(1024)


async def park(sleeper: Sleeper) -> None:
    await sleeper.close()
    sleeper.parked = True


async def test_bytes_are_passed_on_both_ways_until_both_have_said_all(sleeper: Sleeper, door: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*door)
    for word in (b"one", b"two"):
        writer.write(word)
        assert await said(reader) == word.upper()
    writer.write(b"the end")
    writer.write_eof()
    assert await said(reader) == b"THE END"
    assert await said(reader) == b""
    assert sleeper.uses
    writer.close()


async def test_the_first_byte_wakes_one_that_is_parked_and_its_caller_is_held(
    sleeper: Sleeper, door: tuple[str, int]
) -> None:
    await park(sleeper)
    reader, writer = await asyncio.open_connection(*door)
    await asyncio.sleep(0.1)
    assert sleeper.parked, "nobody has said anything yet"
    writer.write(b"good morning")
    assert await said(reader) == b"GOOD MORNING"
    writer.close()


async def test_who_only_looks_whether_the_port_is_open_wakes_nobody(sleeper: Sleeper, door: tuple[str, int]) -> None:
    await park(sleeper)
    _, writer = await asyncio.open_connection(*door)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.2)
    assert sleeper.parked
    assert not sleeper.uses


async def test_who_waits_for_the_other_side_to_begin_wakes_it_after_a_moment(
    sleeper: Sleeper, door: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "FIRST_S", 0.1)
    await park(sleeper)
    _, writer = await asyncio.open_connection(*door)
    async with asyncio.timeout(10):
        while sleeper.parked:
            await asyncio.sleep(0.01)
    writer.close()


async def test_a_byte_over_a_connection_that_stands_wakes_one_that_was_frozen_meanwhile(
    sleeper: Sleeper, door: tuple[str, int]
) -> None:
    reader, writer = await asyncio.open_connection(*door)
    writer.write(b"one")
    assert await said(reader) == b"ONE"
    sleeper.parked, sleeper.starts = True, False
    writer.write(b"two")
    assert await said(reader) == b"TWO"
    assert not sleeper.parked
    writer.close()


@pytest.mark.parametrize(("why", "told"), [("it is stopped: by hand", b"by hand"), (None, b"did not answer in 1 s")])
async def test_who_speaks_http_is_told_that_it_will_not_come(
    sleeper: Sleeper, door: tuple[str, int], why: str | None, told: bytes
) -> None:
    await park(sleeper)
    sleeper.starts, sleeper.why = False, why
    reader, writer = await asyncio.open_connection(*door)
    writer.write(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
    answer = await said(reader)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert told in answer
    assert await said(reader) == b""
    writer.close()


async def test_others_are_only_hung_up_on(sleeper: Sleeper, door: tuple[str, int]) -> None:
    await park(sleeper)
    sleeper.starts, sleeper.why = False, "it is stopped"
    reader, writer = await asyncio.open_connection(*door)
    writer.write(b"\x16\x03\x01")
    assert await said(reader) == b""
    writer.close()


async def test_as_long_as_an_answer_is_awaited_the_agent_is_told_to_be_used(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "LOOK_S", 0.02)
    monkeypatch.setattr(front, "QUIET_S", 0.1)
    made = Front(("127.0.0.1", 0), sleeper.port, sleeper)
    await made.start()
    assert made.address is not None
    reader, writer = await asyncio.open_connection(*made.address)
    writer.write(b"one")
    assert await said(reader) == b"ONE"
    await asyncio.sleep(0.3)
    before = sleeper.uses
    await asyncio.sleep(0.2)
    assert sleeper.uses == before, "an open connection alone is no use"
    await sleeper.close()
    writer.close()
    await park(sleeper)
    sleeper.starts = False
    _, writer = await asyncio.open_connection(*made.address)
    writer.write(b"two")
    async with asyncio.timeout(10):
        while sleeper.uses < before + 3:
            await asyncio.sleep(0.01)
    writer.close()
    await made.stop()


async def test_a_caller_that_is_gone_without_a_word_is_told_to_the_agent() -> None:
    ended = asyncio.Event()

    async def heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1024):
                pass
        ended.set()
        writer.close()

    server = await asyncio.start_server(heard, "127.0.0.1", 0)
    resident = Sleeper()
    made = Front(("127.0.0.1", 0), server.sockets[0].getsockname()[1], resident)
    await made.start()
    assert made.address is not None
    caller = socket.create_connection(made.address)
    caller.sendall(b"one")
    async with asyncio.timeout(10):
        while not resident.uses:
            await asyncio.sleep(0.01)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()
    async with asyncio.timeout(10):
        await ended.wait()
        while made._passages:
            await asyncio.sleep(0.01)
    await made.stop()
    server.close()


async def test_nobody_is_woken_for_a_caller_who_has_hung_up(sleeper: Sleeper, door: tuple[str, int]) -> None:
    await park(sleeper)
    sleeper.starts = False
    _, writer = await asyncio.open_connection(*door)
    await asyncio.sleep(1.2)  # it waits for the other side to begin
    assert not sleeper.parked
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.3)
    uses = sleeper.uses
    await asyncio.sleep(0.3)
    assert sleeper.uses == uses


async def test_it_listens_as_soon_as_the_address_is_free(sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "LOOK_S", 0.02)
    monkeypatch.setattr(front, "LISTEN_S", 0.05)
    first = Front(("127.0.0.1", 0), sleeper.port, sleeper)
    await first.start()
    assert first.address is not None
    second = Front(first.address, sleeper.port, sleeper)
    await second.start()
    assert second.address is None
    await first.stop()
    async with asyncio.timeout(10):
        while second.address is None:
            await asyncio.sleep(0.01)
    await second.stop()


async def test_open_connections_end_with_it(sleeper: Sleeper) -> None:
    made = Front(("127.0.0.1", 0), sleeper.port, sleeper)
    await made.start()
    assert made.address is not None
    reader, writer = await asyncio.open_connection(*made.address)
    writer.write(b"one")
    assert await said(reader) == b"ONE"
    await made.stop()
    try:
        assert await said(reader) == b""
    except ConnectionError:
        pass  # or so
    writer.close()
