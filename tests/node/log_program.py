"""The logs of a node as a process of their own: ``log_program.py FOLDER LIMIT``. Tests kill it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.service import Tasks
from relit.node.logs import Logs


def failed(error: BaseException) -> None:
    raise error


async def main() -> None:
    folder, limit = Path(sys.argv[1]), int(sys.argv[2])
    logs = Logs(SYSTEM_CLOCK, limit_bytes=limit, keep=1000)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    tasks = Tasks(failed)
    logs.add("chatty", folder / "raw.log", folder / "out.log", ["hunter2hunter2"])
    logs.start(tasks)
    await asked.wait()
    await logs.stop()
    await tasks.stop()


asyncio.run(main())
