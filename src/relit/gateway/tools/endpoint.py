"""``/mcp``: an agent's way to its tools, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from relit.errors import StoreError
from relit.gateway.headers import SERVER
from relit.gateway.routes import Caller
from relit.gateway.tools import mcp
from relit.gateway.tools.desk import Desk, Unknown
from relit.gateway.tools.mcp import INTERNAL, NO_METHOD, PARAMS, Reply, Request
from relit.vault.refusals import OnRefusal

PATH = "/mcp"
BODY_MOST = 4 << 20  # bytes
_BODY_S = 30.0  # so long a body may take to come
_TOLD = {403: "a call from a page of another origin", 413: f"a request of more than {BODY_MOST >> 20} MB"}
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Endpoint:
    """Answers what is posted there."""

    def __init__(self, desk: Desk, refused: OnRefusal) -> None:
        self._desk = desk
        self._refused = refused
        self._version = version("relit")

    async def answer(self, request: web.BaseRequest, caller: Caller) -> web.Response:
        """The whole answer to an HTTP request of an agent that is known."""
        try:
            asked = mcp.parse(await _posted(request), {name.lower(): value for name, value in request.headers.items()})
            if asked.id is None:
                return web.Response(status=202, headers=dict([SERVER]))
            return _json(200, mcp.result(asked, await self._result(asked, caller), self._version))
        except Reply as reply:
            if reply.status in _TOLD:
                self._refused(caller.agent, "tools-refused", _TOLD[reply.status])
            return _json(reply.status, reply.body)

    async def _result(self, asked: Request, caller: Caller) -> dict[str, Any]:
        """The fields of the result."""
        about = mcp.introduction(asked, self._version)
        if about is not None:
            return about
        if asked.method == "tools/list":
            return mcp.listed(asked, [] if caller.clone else self._desk.tools(caller.agent))
        if asked.method == "tools/call":
            return await self._called(asked, caller)
        raise mcp.error(asked, NO_METHOD, f"{asked.method} is not known here")

    async def _called(self, asked: Request, caller: Caller) -> dict[str, Any]:
        name, arguments = mcp.asked(asked)
        if caller.clone:
            self._refused(caller.agent, "tools-refused", "a call by a clone that is tried")
            raise mcp.error(asked, PARAMS, "a clone that is tried may use no tools")
        try:
            outcome = await self._desk.call(caller.agent, name, arguments)
        except Unknown as error:
            raise mcp.error(asked, PARAMS, f"Unknown tool: {name}") from error
        except StoreError as error:
            raise mcp.error(
                asked, INTERNAL, f"the call cannot be written down now, and was not made: {error}"
            ) from error
        return {"content": outcome.content, "isError": outcome.failed}


async def _posted(request: web.BaseRequest) -> bytes:
    """The body of a POST from here. Raises ``Reply``."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).hostname not in _LOCAL:
        raise Reply(403)  # a page in a browser, which may have been led here
    if request.method != "POST":
        raise Reply(405)
    try:
        async with asyncio.timeout(_BODY_S):
            return await _whole(request)
    except TimeoutError as error:
        raise Reply(408) from error
    except web.RequestPayloadError as error:
        raise Reply(400) from error


async def _whole(request: web.BaseRequest) -> bytes:
    pieces, size = [], 0
    async for piece in request.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > BODY_MOST:
            raise Reply(413)
    return b"".join(pieces)


def _json(status: int, body: Mapping[str, Any] | None) -> web.Response:
    headers = dict([SERVER]) | ({"Allow": "POST"} if status == 405 else {})
    if body is None:
        return web.Response(status=status, headers=headers)
    return web.Response(
        status=status, body=msgspec.json.encode(body), headers=headers | {"Content-Type": "application/json"}
    )
