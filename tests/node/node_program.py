"""A node as a process of its own: ``node_program.py RUN_DIR SPECS.json``. Tests kill it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from relit.control.unix import UnixControl
from relit.control.values import InstanceSpec
from relit.drivers.process import ProcessDriver
from relit.lib.ids import system_random
from relit.node.client import ensure_keeper
from relit.node.node import Node


async def main() -> None:
    run_dir = Path(sys.argv[1])
    specs = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[InstanceSpec])
    keeper = await ensure_keeper(run_dir)
    control = UnixControl(run_dir / "control.sock")
    node = Node(control, ProcessDriver(keeper), specs, run_dir=run_dir, chance=system_random())
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await node.start()
    await asked.wait()
    await node.stop()
    await keeper.stop()


asyncio.run(main())
