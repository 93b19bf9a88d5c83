"""All requests of a server: kept, waited for, and written to a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from relit.lib.clock import Clock
from relit.testing.llm.ask import Ask
from relit.testing.llm.exchange import End, Exchange
from relit.testing.llm.script import Matching

_SHOWN = 10


class Recorded(msgspec.Struct, kw_only=True):
    """A request in a file. ``end`` and what goes with it are None while the answer is open."""

    no: int
    protocol: str
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at_ms: int
    status: int | None = None
    sent: int | None = None
    end: str | None = None
    ended_ms: int | None = None


class _Ending(msgspec.Struct, tag_field="what", tag="ended"):
    no: int
    status: int | None
    sent: int
    end: str
    ended_ms: int


class _Arrival(msgspec.Struct, tag_field="what", tag="arrived"):
    no: int
    protocol: str
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at_ms: int


def recorded(file: Path) -> list[Recorded]:
    """The requests in ``file`` so far, in the order in which they arrived. A last line that is not whole is left."""
    lines, _, _ = file.read_bytes().rpartition(b"\n")
    found: dict[int, Recorded] = {}
    for line in lines.splitlines():
        noted = msgspec.json.decode(line, type=_Arrival | _Ending)
        if isinstance(noted, _Arrival):
            found[noted.no] = Recorded(**msgspec.structs.asdict(noted))
        else:
            found[noted.no] = msgspec.structs.replace(found[noted.no], **msgspec.structs.asdict(noted))
    return list(found.values())


class Record:
    """``file`` gets a line at once when a request arrives, and one when it has ended."""

    def __init__(self, clock: Clock, file: Path | None) -> None:
        self.exchanges: list[Exchange] = []
        self._clock = clock
        self._waiting: list[tuple[Matching, asyncio.Future[Exchange]]] = []
        self._path = file
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Write to the file from now on; what it held before the first time goes."""
        if self._path is not None:
            self._file = self._path.open("ab" if self.exchanges else "wb", buffering=0)

    def begin(self, ask: Ask, method: str, path: str, headers: dict[str, str]) -> Exchange:
        """A request has arrived."""
        exchange = Exchange(len(self.exchanges) + 1, ask, method, path, headers, self._clock.now_ms())
        self.exchanges.append(exchange)
        place = (exchange.no, ask.protocol, method, path)
        self._write(_Arrival(*place, exchange.headers, ask.body, exchange.at_ms))
        for matching, found in self._waiting:
            if not found.done() and matching(ask):
                found.set_result(exchange)
        return exchange

    def finish(self, exchange: Exchange, end: End) -> None:
        """It is over."""
        now = self._clock.now_ms()
        self._write(_Ending(exchange.no, exchange.status, exchange.sent, end, now))
        exchange.close(end, now)

    async def first(self, matching: Matching, after: Exchange | None, timeout: float) -> Exchange:
        """The first that matches, of those that arrived after ``after``. Raises ``TimeoutError``."""
        for exchange in self.exchanges[0 if after is None else after.no :]:
            if matching(exchange.ask):
                return exchange
        found: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
        waiting = (matching, found)
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(timeout):
                return await found
        except TimeoutError as error:
            raise TimeoutError(f"no such request within {timeout:g} s. {self}") from error
        finally:
            self._waiting.remove(waiting)

    def __str__(self) -> str:
        if not self.exchanges:
            return "None came at all."
        return "\n  ".join([f"{len(self.exchanges)} came, the last:", *map(str, self.exchanges[-_SHOWN:])])

    def close(self) -> None:
        """Nothing more is written. Safe twice."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _write(self, line: _Arrival | _Ending) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(line) + b"\n")
