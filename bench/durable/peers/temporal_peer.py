"""Temporal's development server on a SQLite file, one Python worker, steps that return 1 KB as activities.

With ``--local`` the steps are local activities: many share one record, so a crash runs more of them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import measure
import temporal_work
from temporalio.client import Client
from temporalio.worker import Worker

QUEUE = "bench"


@contextlib.contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """The development server with its own defaults, on a file and without its console."""
    binary = Path(sys.executable).with_name("temporal")
    flags = ["--headless", "--ip", "127.0.0.1", "--port", str(port), "--db-filename", str(folder / "temporal.db")]
    quiet = ["--log-level", "error", "--disable-config-file", "--disable-config-env"]
    with measure.process([str(binary), "server", "start-dev", *flags, *quiet], folder / "temporal.log"):
        measure.wait_for_port(port)
        yield


async def connect(port: int) -> Client:
    """The port opens before the server answers."""
    for _ in range(100):
        try:
            return await Client.connect(f"127.0.0.1:{port}")
        except RuntimeError:
            await asyncio.sleep(0.1)
    raise SystemExit("the Temporal development server does not answer")


async def run_many(client: Client, runs: int, steps: int, local: bool) -> float:
    """Seconds from the first start to the last result."""

    async def one() -> int:
        return await client.execute_workflow(
            temporal_work.Job.run, args=[steps, local], id=str(uuid.uuid4()), task_queue=QUEUE
        )

    begin = time.perf_counter()
    answers = await asyncio.gather(*(one() for _ in range(runs)))
    seconds = time.perf_counter() - begin
    measure.check(answers, steps)
    return seconds


async def start_latency(client: Client, samples: int) -> dict[str, float]:
    """Milliseconds from the start request to the workflow's first line."""
    taken = []
    for number, pause in enumerate(measure.pauses(samples, 0.05)):
        await asyncio.sleep(pause)
        begin = time.perf_counter()
        await client.execute_workflow(temporal_work.Note.run, number, id=f"note-{number}", task_queue=QUEUE)
        taken.append((temporal_work.started[number] - begin) * 1000)
    return measure.latency(taken)


async def main(options: measure.Options, port: int) -> dict[str, float]:
    """The figures of the scenarios asked for, after a short run that warms everything up."""
    client, local = await connect(port), options.local
    figures: dict[str, float] = {}
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[temporal_work.Job, temporal_work.Note],
        activities=[temporal_work.work, temporal_work.mark],
        max_concurrent_activities=options.runs,
    ):
        await run_many(client, 10, 2, local)
        if "aggregate" in options.scenarios:
            figures["aggregate"] = await measure.rate(
                options.runs * options.steps, lambda: run_many(client, options.runs, options.steps, local)
            )
        if "sequential" in options.scenarios:
            figures["sequential"] = await measure.rate(
                options.sequential, lambda: run_many(client, 1, options.sequential, local)
            )
        if "latency" in options.scenarios:
            figures |= await start_latency(client, options.samples)
    return figures


if __name__ == "__main__":
    asked = measure.options()
    at = measure.free_port()
    with server(asked.folder, at):
        measure.report("temporal", version("temporalio"), asyncio.run(main(asked, at)))
