"""A relit worker in a process of its own, for ``relit_limits.py``: says when it is ready, ends when its input ends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import relit_engine


async def main(folder: Path, concurrency: int) -> None:
    """Work until standard input is closed."""
    async with relit_engine.engine("sqlite", folder) as here, relit_engine.worker(here, concurrency):
        print("ready", flush=True)
        closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), closed.set)
        await closed.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
