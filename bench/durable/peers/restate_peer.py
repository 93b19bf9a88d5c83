"""Restate: its server with its own defaults, a Python service behind it, called through the ingress.

The service runs in a process of its own, as it has to; its time counts like the server's. It is served by hypercorn
as Restate's documentation shows, or by granian (``--server granian``), which is faster.
"""

from __future__ import annotations

import asyncio
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import measure

HERE = Path(__file__).resolve().parent
SERVER = HERE.parents[2] / ".bench" / "restate" / "node_modules" / ".bin" / "restate-server"
SERVICES = {
    "hypercorn": "hypercorn restate_service:app --bind 127.0.0.1:{port}",
    "granian": "granian --interface asgi --http 2 --host 127.0.0.1 --port {port} restate_service:app",
}


def server_settings(folder: Path, ingress: int, admin: int) -> dict[str, str]:
    """Only where it keeps its files and listens; no telemetry. Everything else is its default."""
    return {
        "RESTATE_BASE_DIR": str(folder / "restate"),
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_BIND_PORT": str(measure.free_port()),
        "RESTATE_ADVERTISED_HOST": "127.0.0.1",
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_DISABLE_TELEMETRY": "true",
    }


async def register(admin: int, service: int) -> None:
    """Tell the server of the service; it answers 5xx while it still starts."""
    async with aiohttp.ClientSession() as client:
        for _ in range(100):
            body = {"uri": f"http://127.0.0.1:{service}"}
            async with client.post(f"http://127.0.0.1:{admin}/deployments", json=body) as answer:
                if answer.status in (200, 201):
                    return
                text = await answer.text()
            await asyncio.sleep(0.2)
    raise SystemExit(f"Restate did not take the service: {text}")


async def call(client: aiohttp.ClientSession, handler: str, value: int) -> Any:
    """One call through the ingress, answered when the run is done."""
    async with client.post(f"/bench/{handler}", json=value, raise_for_status=True) as answer:
        return await answer.json()


async def run_many(client: aiohttp.ClientSession, runs: int, steps: int) -> float:
    """Seconds from the first call to the last result."""
    begin = time.perf_counter()
    answers = await asyncio.gather(*(call(client, "job", steps) for _ in range(runs)))
    seconds = time.perf_counter() - begin
    measure.check(answers, steps)
    return seconds


async def start_latency(client: aiohttp.ClientSession, samples: int) -> dict[str, float]:
    """Milliseconds from the call to the handler's first line."""
    taken = []
    for number, pause in enumerate(measure.pauses(samples, 0.05)):
        await asyncio.sleep(pause)
        begin = time.perf_counter()
        taken.append((await call(client, "note", number) - begin) * 1000)
    return measure.latency(taken)


async def main(options: measure.Options, ingress: int, admin: int, service: int) -> dict[str, float]:
    """The figures of the scenarios asked for, once the server has warmed up (its first second is far slower)."""
    figures: dict[str, float] = {}
    await register(admin, service)
    everyone = aiohttp.TCPConnector(limit=options.runs)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{ingress}", connector=everyone) as client:
        for _ in range(3):
            await run_many(client, options.runs, options.steps)
        if "aggregate" in options.scenarios:
            figures["aggregate"] = await measure.rate(
                options.runs * options.steps, lambda: run_many(client, options.runs, options.steps)
            )
        if "sequential" in options.scenarios:
            figures["sequential"] = await measure.rate(
                options.sequential, lambda: run_many(client, 1, options.sequential)
            )
        if "latency" in options.scenarios:
            figures |= await start_latency(client, options.samples)
    return figures


if __name__ == "__main__":
    asked = measure.options()
    ports = [measure.free_port() for _ in range(3)]
    serve = [sys.executable, "-m", *SERVICES[asked.server].format(port=ports[2]).split()]
    with (
        measure.process(serve, asked.folder / "service.log"),
        measure.process(
            [str(SERVER), "--no-logo"], asked.folder / "server.log", server_settings(asked.folder, *ports[:2])
        ),
    ):
        for port in ports:
            measure.wait_for_port(port)
        measure.report("restate", version("restate-sdk"), asyncio.run(main(asked, *ports)))
