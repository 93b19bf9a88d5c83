"""What a call through the gateway costs, beside the same gateway on Starlette, uvicorn and httpx.

``python bench/gateway/passing.py`` takes about a minute and prints one JSON object. A provider on loopback answers
small calls at once and streams one small event every few milliseconds; a client in this process asks it directly and
through each gateway, by turns. *added*: the median of a small call, less that of the direct one. *cpu*: the gateway's
own CPU time for each call, and for each event that it passed. Trust these, and ratios, on a machine that does more.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

CALLS, ROUNDS = 400, 5
STREAMS, EVENTS, PAUSE = 40, 150, 0.005
TOKEN = "token"
EVENT = b"data: " + b"x" * 180 + b"\n\n"
SMALL = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
TICKS = os.sysconf("SC_CLK_TCK")


# --- processes ------------------------------------------------------------------------------------------------------


async def provider() -> None:
    """Answers ``/v1/stream`` with events, everything else with two bytes."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: x\r\nDate: x\r\n")
            if b"/stream" not in head.split(b"\r\n")[0]:
                writer.write(b"Content-Length: 2\r\n\r\n{}")
                continue
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(EVENTS):
                writer.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
                await asyncio.sleep(PAUSE)
            writer.write(b"0\r\n\r\n")

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
    except asyncio.IncompleteReadError:
        return b""
    if b"content-length: " in head:
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
    return head


async def relit(url: str) -> None:
    """relit's own."""
    from relit.gateway.routes import Caller, Known, Route
    from relit.gateway.server import Gateway

    gateway = Gateway({"default": Route("default", f"{url}/v1", "key")}, Known([Caller("a", TOKEN, "default")]), port=0)
    await gateway.start()
    print(gateway.url, flush=True)
    await asyncio.Event().wait()


async def starlette(url: str) -> None:
    """The least that one on Starlette and httpx must do."""
    import httpx
    import uvicorn
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse

    http = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None), trust_env=False)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            await Response(status_code=401)(scope, receive, send)
            return
        headers = [(k, v) for k, v in request.headers.items() if k not in ("host", "authorization", "content-length")]
        headers.append(("authorization", "Bearer key"))
        target = f"{url}{request.url.path.removeprefix('/openai')}"
        asked = http.build_request(request.method, target, headers=headers, content=await request.body())
        answer = await http.send(asked, stream=True)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in answer.aiter_raw():
                yield piece
            await answer.aclose()

        kept = {k: v for k, v in answer.headers.items() if k != "transfer-encoding"}
        await StreamingResponse(pieces(), answer.status_code, kept)(scope, receive, send)

    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", http="h11")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio knows it as TCP's
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listening])


ROLES = {"relit": relit, "starlette": starlette}


def _start(role: str, *words: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, __file__, role, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


# --- measuring ------------------------------------------------------------------------------------------------------


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _rss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _request(path: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(SMALL)}\r\n\r\n".encode() + SMALL


async def _calls(url: str, path: str) -> float:
    """The median of small calls, one after the other on one connection, in milliseconds."""
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        writer.write(_request(path))
        await reader.readuntil(b"{}")
        took.append(time.perf_counter() - began)
    writer.close()
    return statistics.median(took) * 1000


async def _stream(url: str, path: str) -> None:
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    writer.write(_request(path))
    while b"0\r\n\r\n" not in await reader.read(1 << 16):
        pass
    writer.close()


async def measure() -> dict[str, Any]:
    """Everybody by turns."""
    there, url = _start("provider")
    gateways = {role: _start(role, url) for role in ROLES}
    calls: dict[str, list[float]] = {"direct": [], **{role: [] for role in ROLES}}
    cpu: dict[str, list[float]] = {role: [] for role in ROLES}
    cpu_calls: dict[str, list[float]] = {role: [] for role in ROLES}
    try:
        for _ in range(ROUNDS):
            calls["direct"].append(await _calls(url, "/v1/chat/completions"))
            for role, (process, at) in gateways.items():
                start = _cpu_s(process.pid)
                calls[role].append(await _calls(at, "/openai/v1/chat/completions"))
                before = _cpu_s(process.pid)
                cpu_calls[role].append((before - start) * 1e6 / CALLS)
                await asyncio.gather(*(_stream(at, "/openai/v1/stream") for _ in range(STREAMS)))
                cpu[role].append((_cpu_s(process.pid) - before) * 1e6 / STREAMS / EVENTS)
        memory = {role: _rss_mb(process.pid) for role, (process, _) in gateways.items()}
    finally:
        for process, _ in [(there, url), *gateways.values()]:
            process.kill()
            process.wait()
    direct = statistics.median(calls["direct"])
    return {
        "direct_p50_ms": round(direct, 3),
        **{
            role: {
                "added_p50_ms": round(statistics.median(calls[role]) - direct, 3),
                "cpu_us_per_call": round(statistics.median(cpu_calls[role]), 1),
                "cpu_us_per_event": round(statistics.median(cpu[role]), 1),
                "rss_mb": round(memory[role], 1),
            }
            for role in ROLES
        },
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["provider"]:
            asyncio.run(provider())
        case [role, url]:
            asyncio.run(ROLES[role](url))
        case _:
            print(json.dumps(asyncio.run(measure()), indent=2))
