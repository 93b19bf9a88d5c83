"""The Model Context Protocol, as far as a server of tools speaks it. Pure.

Both of its eras at one address: 2026-07-28, in which each request says all there is to say, and the ones before, which
begin with ``initialize``. Nothing is remembered between requests in either.
Source: modelcontextprotocol.io/specification/2026-07-28 (basic/transports/streamable-http, server/tools).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from relit.gateway.tools.base import Tool

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
PARSE, INVALID, NO_METHOD, PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
MISMATCH, VERSION = -32020, -32022
_VERSION = "io.modelcontextprotocol/protocolVersion"
_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
_SERVER_INFO = "io.modelcontextprotocol/serverInfo"
_NAMED = {"tools/call": "name", "resources/read": "uri", "prompts/get": "name"}
_FRESH = {"ttlMs": 0, "cacheScope": "private"}  # what an agent is granted may change at any time


class Request(msgspec.Struct, frozen=True):
    """A request, or with ``id`` ``None`` a notification."""

    id: str | int | None
    method: str
    params: dict[str, Any]
    modern: bool


class Reply(Exception):
    """An error, or an answer that needs nothing else. ``body``: ``None`` for none."""

    def __init__(self, status: int, body: dict[str, Any] | None = None) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        self.body = body


def parse(body: bytes, headers: Mapping[str, str]) -> Request:
    """What was posted. Raises ``Reply`` for what cannot be answered otherwise."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Reply(400, _error(None, PARSE, f"the body is no JSON: {error}")) from error
    if not isinstance(found, dict) or found.get("jsonrpc") != "2.0" or not isinstance(found.get("method"), str):
        raise Reply(400, _error(None, INVALID, "the body must be one JSON-RPC 2.0 request or notification"))
    id, params = found.get("id"), found.get("params", {})
    if "id" in found and (not isinstance(id, str | int) or isinstance(id, bool)):
        raise Reply(400, _error(None, INVALID, "an id is a string or an integer"))
    if not isinstance(params, dict):
        raise Reply(400, _error(id, PARAMS, "params must be an object"))
    meta = _meta(params)
    request = Request(id, found["method"], params, modern=meta.get(_VERSION) is not None)
    _see(request, meta, headers)
    return request


def _meta(params: dict[str, Any]) -> dict[str, Any]:
    meta = params.get("_meta")
    return meta if isinstance(meta, dict) else {}


def _see(request: Request, meta: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """Whether a request says what its era wants. One that names no version in any place is of the era before."""
    version, said = meta.get(_VERSION), headers.get("mcp-protocol-version")
    if version is None:
        if said == MODERN and request.id is not None:
            raise _lacking(request, _VERSION)
        if said not in (None, MODERN, *LEGACY):
            raise Reply(400, _unsupported(request, said))
        return
    _equal(request, "MCP-Protocol-Version", said, version)
    if version != MODERN:
        raise Reply(400, _unsupported(request, version))
    if request.id is not None and not isinstance(meta.get(_CAPABILITIES), dict):
        raise _lacking(request, _CAPABILITIES)
    _equal(request, "Mcp-Method", headers.get("mcp-method"), request.method)
    if (field := _NAMED.get(request.method)) is not None:
        _equal(request, "Mcp-Name", _plain(headers.get("mcp-name")), request.params.get(field))


def _lacking(request: Request, field: str) -> Reply:
    return Reply(400, _error(request.id, PARAMS, f"params._meta lacks a sound {field}"))


def _equal(request: Request, name: str, said: str | None, meant: Any) -> None:
    if said != meant:
        found = "is missing" if said is None else f"value {said!r} does not match body value {meant!r}"
        raise Reply(400, _error(request.id, MISMATCH, f"Header mismatch: {name} header {found}"))


def _plain(value: str | None) -> str | None:
    """A header's value that may be encoded."""
    if value is None or not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return value


def _unsupported(request: Request, version: Any) -> dict[str, Any]:
    data = {"supported": [MODERN, *LEGACY], "requested": version}
    return _error(request.id, VERSION, "Unsupported protocol version", data)


def _error(id: str | int | None, code: int, message: str, data: Any = None) -> dict[str, Any]:
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": id, "error": error}


def error(request: Request, code: int, message: str) -> Reply:
    """An error that answers a request. Only the newer era has a status for a method that is not there."""
    return Reply(404 if request.modern and code == NO_METHOD else 200, _error(request.id, code, message))


def result(request: Request, fields: dict[str, Any], version: str) -> dict[str, Any]:
    """A request's answer. In the newer era each says who gave it."""
    newer = {"resultType": "complete", "_meta": {_SERVER_INFO: _server(version)}} if request.modern else {}
    return {"jsonrpc": "2.0", "id": request.id, "result": newer | fields}


def _server(version: str) -> dict[str, Any]:
    return {"name": "relit", "title": "relit", "version": version}


def introduction(request: Request, version: str) -> dict[str, Any] | None:
    """What is said of the server to a request that asks only for that; ``None``: it asks for more."""
    about: dict[str, Any] = {"capabilities": {"tools": {}}, "serverInfo": _server(version)}
    if request.method == "server/discover" and request.modern:
        return {"supportedVersions": [MODERN, *LEGACY], **about, **_FRESH}
    if request.method == "initialize" and not request.modern:
        asked = request.params.get("protocolVersion")
        return {"protocolVersion": asked if asked in LEGACY else LEGACY[0], **about}
    if request.method == "ping" and not request.modern:
        return {}
    return None


def listed(request: Request, tools: Iterable[Tool]) -> dict[str, Any]:
    """What ``tools/list`` asks for: all on one page, in one order."""
    fields = {"tools": [_shown(each) for each in sorted(tools, key=lambda tool: tool.name)]}
    return fields | (_FRESH if request.modern else {})


def _shown(tool: Tool) -> dict[str, Any]:
    reads = tool.effect == "read"
    return {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.schema,
        "annotations": {"readOnlyHint": reads, "idempotentHint": reads or tool.effect == "natural-key"},
    }


def asked(request: Request) -> tuple[str, dict[str, Any]]:
    """(tool, arguments) of ``tools/call``. Raises ``Reply``."""
    name, arguments = request.params.get("name"), request.params.get("arguments") or {}
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise error(request, PARAMS, "tools/call wants a name, and arguments that are an object")
    return name, arguments
