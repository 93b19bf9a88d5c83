"""A gateway that writes its calls down under a budget, and proves at its end that nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
from gateway_house import KEY, TOKEN

from relit.gateway.crowd import AT_ONCE
from relit.gateway.ledger import Ledger
from relit.gateway.prices import Price
from relit.gateway.routes import Caller, Known, Patience, Route
from relit.gateway.server import Gateway
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Budget, ModelCall

PRICES = {"m": Price(input=1.0, output=10.0)}
OTHER = "other-token"
PLENTY = 10**15  # billionths of a dollar
BRIEF = Patience(connect=1.0, first_byte=1.0, idle=0.5)
BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":100}'


@dataclass
class Watched:
    """``here`` serves ``scout`` and ``other``; ``store`` is its ledger's."""

    here: Gateway
    store: SqliteStore

    async def calls(self, agent: str = "scout") -> list[ModelCall]:
        return await self.store.calls.of_agent(agent)

    async def only(self) -> ModelCall:
        await self.settled()
        [found] = await self.calls()
        return found

    async def settled(self) -> None:
        """Back when no call is under way any more; fails when one stays."""
        async with asyncio.timeout(10):
            while await self.store.calls.open_calls():
                await asyncio.sleep(0.01)


@dataclass
class Got:
    """What an agent saw. ``whole``: the answer had its end."""

    status: int = 0
    headers: dict[str, str] | None = None
    body: bytes = b""
    whole: bool = False


@asynccontextmanager
async def watched(
    url: str, folder: Path, limit: int = PLENTY, *, at_once: int = AT_ONCE, **route: Any
) -> AsyncIterator[Watched]:
    """Fails when a call stays open, money stays reserved, or tasks or connections stay."""
    store = SqliteStore(folder / "relit.db")
    await store.start()
    before = _left()
    budgets = {name: Budget(scope=f"agent:{name}", limit=limit) for name in ("scout", "other")}
    made = Gateway(
        {"default": Route("default", url, KEY, **route)},
        Known([Caller("scout", TOKEN, "default"), Caller("other", OTHER, "default")]),
        port=0,
        ledger=Ledger(store.calls, PRICES, budgets, {}),
        at_once=at_once,
    )
    await made.start()
    try:
        found = Watched(made, store)
        yield found
        await found.settled()
        assert [each.reserved for each in await store.calls.spending(await _today(store))] in ([], [0], [0, 0])
    finally:
        await made.stop()
        await _gone(before)
        await store.stop()


async def _today(store: SqliteStore) -> str:
    """The day of the newest call, as its budgets are kept."""
    newest = [each for name in ("scout", "other") for each in await store.calls.of_agent(name, 1)]
    return max((each.budgets.partition(" ")[0] for each in newest), default="")


def _left() -> tuple[int, int]:
    sockets = [each for each in os.listdir("/proc/self/fd") if _is_socket(each)]
    return len(sockets), len(asyncio.all_tasks())


def _is_socket(name: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    except FileNotFoundError:  # the listing's own
        return False


async def _gone(before: tuple[int, int]) -> None:
    """Transports close in the turn of the loop after the one that they are told to."""
    until = asyncio.get_running_loop().time() + 5
    while any(now > was for now, was in zip(_left(), before, strict=True)):
        assert asyncio.get_running_loop().time() < until, f"left: {_left()}, not {before}: {asyncio.all_tasks()}"
        gc.collect()
        await asyncio.sleep(0.01)


def request(
    path: str = "/openai/v1/chat/completions",
    body: bytes = BODY,
    *more: str,
    method: str = "POST",
    token: str | None = TOKEN,
) -> bytes:
    """As it goes over the wire."""
    head = [f"{method} {path} HTTP/1.1", "Host: gateway", "Content-Type: application/json", "Connection: close"]
    head += [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([*head, f"Content-Length: {len(body)}", *more, "", ""]).encode("latin-1") + body


@asynccontextmanager
async def asking(here: Gateway, sent: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which these bytes were sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(here.url.rpartition(":")[2]))
    try:
        writer.write(sent)
        yield reader, writer
    finally:
        writer.close()


async def ask(here: Gateway, sent: bytes | None = None, within: float = 10.0) -> Got:
    """Send these bytes, and read an answer, as strictly as the standard has it."""
    sent = request() if sent is None else sent
    async with asyncio.timeout(within), asking(here, sent) as (reader, _):
        return await _answer(reader, sent.partition(b" ")[0])


async def _answer(reader: asyncio.StreamReader, method: bytes) -> Got:
    parser, got = h11.Connection(h11.CLIENT), Got()
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    try:
        while not got.whole:
            match parser.next_event():
                case h11.NEED_DATA:
                    parser.receive_data(await reader.read(1 << 16))
                case h11.Response() as event:
                    got.status = event.status_code
                    got.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                case h11.Data() as event:
                    got.body += event.data
                case h11.EndOfMessage():
                    got.whole = True
                case h11.ConnectionClosed():
                    break
    except (h11.RemoteProtocolError, ConnectionError):
        pass  # broken off
    return got
