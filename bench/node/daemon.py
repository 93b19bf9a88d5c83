"""The node of `relit up` without a server: ``daemon.py RUN_DIR SPECS.json``. SIGHUP: read the specs again.

It has what `relit up` has in that process: the same modules, logs, care and incidents. What it reports goes nowhere.
``RUN_DIR/began`` holds the monotonic clock at the moment at which its imports were done.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from relit.app.stopping import running, until_signal
from relit.control.care import Incident, KnownGood, Tried, Went
from relit.control.local import LocalControl
from relit.control.values import Activity, Death, Desired, InstanceSpec, Measured, NodeInfo
from relit.drivers.process import ProcessDriver
from relit.events import Event
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.ids import system_random
from relit.node.client import ensure_keeper
from relit.node.logs import Logs
from relit.node.node import Node


class Quiet:
    """A server that takes everything and wants nothing."""

    async def hello(self, node: NodeInfo) -> None: ...

    async def report(self, events: Sequence[Event]) -> None: ...

    async def worker_died(self, death: Death) -> None: ...

    async def incident(self, incident: Incident) -> None: ...

    async def desired(self, version: int, wait_s: float) -> Desired:
        await asyncio.sleep(wait_s)
        return Desired(version=max(1, version))

    async def known_good(self, agent: str, files: Sequence[str] = (), *, broken: bool = False) -> KnownGood:
        return KnownGood()

    async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
        raise AssertionError("nothing is known to be good")

    async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
        raise AssertionError("nothing is known to be good")

    async def mark_good(self, agent: str) -> int:
        return 0

    async def activity(self) -> Activity:
        return Activity()

    async def footprints(self, learnt: Sequence[Measured]) -> list[Measured]:
        return []


def read(specs: Path) -> list[InstanceSpec]:
    """The agents."""
    return msgspec.json.decode(specs.read_bytes(), type=list[InstanceSpec])


def on_hangup() -> asyncio.Event:
    """Set at each SIGHUP."""
    again = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again.set)
    return again


async def take(node: Node, specs: Path, again: asyncio.Event) -> None:
    """The agents anew, whenever that is set."""
    while await again.wait():
        again.clear()
        await node.take(read(specs), read_at=SYSTEM_CLOCK.monotonic())


async def main(run_dir: Path, specs: Path) -> None:
    """Keep them until a signal comes; then stop all."""

    (run_dir / "began").write_text(str(time.monotonic_ns()))
    again = on_hangup()
    keeper = await ensure_keeper(run_dir)
    try:
        node = Node(
            LocalControl(Quiet()),
            ProcessDriver(keeper),
            read(specs),
            run_dir=run_dir,
            chance=system_random(),
            logs=Logs(SYSTEM_CLOCK),
        )
        async with until_signal() as stop, running([node]):
            taking = asyncio.create_task(take(node, specs, again))
            await stop.wait()
            taking.cancel()
        await keeper.shutdown()
    finally:
        await keeper.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
