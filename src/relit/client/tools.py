"""Agents' calls to tools, from afar: ``client.tools``. An id may be shortened to the beginning or end of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from relit import documents
from relit.lib.plain import to_plain
from relit.link import Link

T = TypeVar("T")


class Tools:
    """The calls to tools of a server."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def approvals(self) -> list[documents.ToolCall]:
        """Those that wait for a person's word, oldest first."""
        return (await self._get("/v1/approvals", documents.ToolCalls)).calls

    async def decide(self, id: str, *, approve: bool, why: str = "") -> documents.ToolCall:
        """Allow a held call, or deny it. NotFound; Conflict: it is not held (any more)."""
        return await self._post(f"/v1/approvals/{_segment(id)}", {"approve": approve, "why": why})

    async def calls(self, state: Sequence[str] = ()) -> list[documents.ToolCall]:
        """Those that are being made or in doubt, or in these states."""
        return (await self._get("/v1/tools/calls", documents.ToolCalls, state=list(state))).calls

    async def get(self, id: str) -> documents.ToolCall:
        """One, whole. NotFound."""
        return await self._get(f"/v1/tools/calls/{_segment(id)}", documents.ToolCall)

    async def resolve(self, id: str, *, done: bool, result: object = None) -> documents.ToolCall:
        """Say whether a call in doubt happened. One that did not is made again. NotFound, Conflict."""
        body = {"done": done, "result": to_plain(result)}
        return await self._post(f"/v1/tools/calls/{_segment(id)}/resolve", body)

    async def of_run(self, run: str) -> list[documents.ToolCall]:
        """Of a turn, in their order."""
        return (await self._get(f"/v1/runs/{_segment(run)}/tools", documents.ToolCalls)).calls

    async def of_agent(self, agent: str, *, limit: int = 100) -> list[documents.ToolCall]:
        """Of an agent, newest first."""
        return (await self._get(f"/v1/agents/{_segment(agent)}/tools", documents.ToolCalls, limit=limit)).calls

    async def _get(self, path: str, shape: type[T], **query: Any) -> T:
        return msgspec.json.decode(await self._link.request("GET", path, query=query), type=shape)

    async def _post(self, path: str, body: object) -> documents.ToolCall:
        return msgspec.json.decode(await self._link.request("POST", path, body=body), type=documents.ToolCall)


def _segment(name: str) -> str:
    return quote(name, safe="")
