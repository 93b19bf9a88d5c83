"""The least that a proxy on aiohttp does: ``bare.py UPSTREAM`` prints its address. It keeps nothing and asks nobody who
calls."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from aiohttp import web

_HOP = ("host", "content-length", "transfer-encoding", "connection")


def kept(headers: aiohttp.typedefs.LooseHeaders) -> dict[str, str]:
    """What goes on."""
    return {name: value for name, value in dict(headers).items() if name.lower() not in _HOP}


async def serve(upstream: str) -> None:
    """Until it is killed."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
    )

    async def passed(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with session.request(
            request.method, upstream + request.raw_path, headers=kept(request.headers), data=body
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=kept(answer.headers))
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", passed)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
