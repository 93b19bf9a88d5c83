"""A gateway with tools, over a real store: a scripted source, and a client that speaks MCP by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
from gateway_house import TOKEN

from relit.app.refusing import refusals
from relit.gateway.routes import Caller, Known
from relit.gateway.server import Gateway
from relit.gateway.tools.base import Outcome, Tool, text
from relit.gateway.tools.desk import Desk, Office
from relit.gateway.tools.own import OwnTools
from relit.gateway.tools.shelf import Grant, Shelf
from relit.lib.spellings import spellings
from relit.store.blobs import ObstoreBlobs
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.tools import ToolCall
from relit.store.values import Turn
from relit.vault.refusals import Refusals

SCHEMA = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "text": {"type": "string"}},
    "required": ["to"],
    "additionalProperties": False,
}
SECRETS = tuple(sorted(spellings(["geheimnis"]), key=len, reverse=True))
EVERYTHING = {"scout": Grant(("*",))}


@dataclass(eq=False)
class Scripted:
    """A source whose tools do what a test says. ``made``: the calls that arrived, with their keys."""

    tools: Sequence[Tool]
    act: Callable[[ToolCall, dict[str, Any]], Any] = lambda call, arguments: text(f"sent to {arguments.get('to')}")
    found: Callable[[ToolCall], Outcome | None] = lambda call: None
    made: list[tuple[str, str]] = field(default_factory=list)
    looked: int = 0
    cleared: int = 0

    async def send(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        self.made.append((call.tool, call.key))
        outcome = self.act(call, arguments)
        if asyncio.iscoroutine(outcome):
            outcome = await outcome
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, Outcome)
        return outcome

    async def stop(self) -> None:
        pass

    async def clear(self, call: ToolCall) -> Outcome | None:
        self.cleared += 1
        return None

    async def look(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome | None:
        self.looked += 1
        return self.found(call)


@dataclass
class Turns:
    """Which turn the agent works on."""

    now: Turn = field(default_factory=lambda: Turn(run="r1", life="1"))

    async def turn(self, agent: str) -> Turn:
        return self.now


@dataclass
class House:
    """All of it."""

    store: SqliteStore
    gateway: Gateway
    desk: Desk
    source: Scripted
    turns: Turns
    told: list[str]
    refusals: Refusals

    async def refused(self) -> list[tuple[str, str, str]]:
        """(who, code, why) of what the audit trail has, newest first."""
        await self.refusals.flush()
        return [(each.who, each.name, each.whom) for each in await self.store.secrets.audited()]

    async def mcp(self, method: str, token: str = TOKEN, **params: Any) -> dict[str, Any]:
        """The answer to a request of a client of the older era."""
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as http:
            answer = await http.post(
                f"{self.gateway.url}/mcp",
                headers={"Authorization": f"Bearer {token}"},
                content=msgspec.json.encode(body),
            )
        found: dict[str, Any] = answer.json()
        return found

    async def call(self, name: str = "mail", **arguments: Any) -> tuple[str, bool]:
        """(text, whether it is an error) of a call to a tool."""
        answer = await self.mcp("tools/call", name=name, arguments=arguments)
        if "error" in answer:
            return str(answer["error"]["message"]), True
        result = answer["result"]
        return "".join(part["text"] for part in result["content"]), bool(result["isError"])


def mail(**options: Any) -> Tool:
    """A tool that sends something."""
    given: dict[str, Any] = {"name": "mail", "description": "Send a mail.", "schema": SCHEMA, "effect": "ask"}
    return Tool(**(given | options))


@asynccontextmanager
async def house(
    folder: Path, source: Scripted, *, grants: dict[str, Grant] | None = None, me: str = "g1", **options: Any
) -> AsyncIterator[House]:
    """A gateway whose agent ``scout`` is granted everything, on the store in ``folder``."""
    store = SqliteStore(folder / "relit.db")
    await store.start()
    told: list[str] = []
    turns = Turns(options.pop("turn", None) or Turn(run="r1", life="1"))
    blobs = ObstoreBlobs(folder / "blobs")
    refused = refusals(store, "gateway")

    async def tell(call: ToolCall, words: str) -> None:
        told.append(words)

    given = {"is_dead": lambda other: other != me, "hold_s": 10.0, **options}
    office = Office(
        calls=store.tools, turns=turns, blobs=blobs, subscribe=store.subscribe, tell=tell, me=me,
        refused=refused.saw, **given,
    )  # fmt: skip
    desk = Desk(office, Shelf([source, OwnTools(store.tools, blobs)], grants or EVERYTHING), SECRETS)
    callers = Known(
        [Caller("scout", TOKEN, ""), Caller("other", "other-token", ""), Caller("scout", "clone", "", True)]
    )
    gateway = Gateway({}, callers, port=0, desk=desk, refusals=refused)
    await gateway.start()
    try:
        yield House(store, gateway, desk, source, turns, told, refused)
    finally:
        await gateway.stop()
        await store.stop()


async def until(true: Callable[[], Any], *, within: float = 10.0) -> None:
    """Wait for what a task does."""
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.01)


async def left_open(folder: Path, tool: Tool, to: str = "ann") -> str:
    """A call whose gateway was killed while it was under way; its key."""

    async def forever(call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError("it is killed")

    async with house(folder, Scripted([tool], forever)) as home:
        asking = asyncio.ensure_future(home.call(to=to))
        await until(lambda: home.source.made)
        asking.cancel()
        await asyncio.wait([asking])
        return home.source.made[0][1]
