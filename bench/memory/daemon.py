"""A node without a server: ``python -m bench.memory.daemon RUN_DIR SPECS EVENTS BUSY``. SIGHUP: read the specs again.

What happens is a line of EVENTS each, with the monotonic clock; BUSY lists the agents that have something to do.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.node.daemon import Quiet, on_hangup, read, take

from relit.app.stopping import running, until_signal
from relit.control.local import LocalControl
from relit.control.values import Activity
from relit.drivers.process import ProcessDriver
from relit.events import Event
from relit.lib.ids import system_random
from relit.node.client import ensure_keeper
from relit.node.node import Node


class Telling(Quiet):
    """A server that writes down what it hears, and knows who is busy."""

    def __init__(self, events: Path, busy: Path) -> None:
        self._events = events.open("a", buffering=1)
        self._busy = busy

    async def report(self, events: Sequence[Event]) -> None:
        for each in events:
            self._events.write(json.dumps({"t": time.monotonic(), "name": each.name, **each.data}) + "\n")

    async def activity(self) -> Activity:
        return Activity(busy=json.loads(self._busy.read_text() or "[]") if self._busy.exists() else [])


async def main(run_dir: Path, specs: Path, events: Path, busy: Path) -> None:
    """Keep them until a signal comes; then stop all."""

    again = on_hangup()
    keeper = await ensure_keeper(run_dir)
    try:
        node = Node(
            LocalControl(Telling(events, busy)), ProcessDriver(keeper), read(specs), run_dir=run_dir,
            chance=system_random(),
        )  # fmt: skip
        if os.environ.get("RELIT_BENCH_BLIND"):
            node.semaphore.run = asyncio.Event().wait  # type: ignore[method-assign, assignment]
        async with until_signal() as stop, running([node]):
            taking = asyncio.create_task(take(node, specs, again))
            await stop.wait()
            taking.cancel()
        await keeper.shutdown()
    finally:
        await keeper.stop()


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:5])))
