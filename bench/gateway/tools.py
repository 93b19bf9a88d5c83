"""What a call to a tool takes longer through the gateway's MCP address than straight to its service."""

from __future__ import annotations

import http.client
import json
import time
from statistics import median
from urllib.parse import urlsplit

from bench.gateway.load import Door


def added_ms(door: Door, upstream: str, calls: int) -> float:
    """The difference of the medians, in ms; a call of each side in turn, one after the other, on kept connections."""
    straight, through = _way(upstream), _way(door.url)
    took: dict[str, list[float]] = {"straight": [], "through": []}
    for number in range(calls):
        arguments = {"what": f"thing {number}"}
        took["straight"].append(_call(straight, "/1-0-0/touch", {}, arguments))
        asked = {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {"name": "touch", "arguments": arguments},
        }
        headers = {"Authorization": f"Bearer {door.token}"}
        took["through"].append(_call(through, "/mcp", headers, asked))
    for way in (straight, through):
        way.close()
    return 1000 * (median(took["through"]) - median(took["straight"]))


def _way(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(str(parts.hostname), parts.port)


def _call(way: http.client.HTTPConnection, path: str, headers: dict[str, str], body: object) -> float:
    """Seconds."""
    data = json.dumps(body).encode()
    began = time.perf_counter()
    way.request("POST", path, data, {"Content-Type": "application/json", **headers})
    answer = way.getresponse()
    said = answer.read()
    took = time.perf_counter() - began
    if answer.status != 200 or b'"isError":true' in said or b'"error"' in said:
        raise SystemExit(f"a call to a tool failed: {said[:500]!r}")
    return took
