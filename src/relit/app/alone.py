"""One process for one task of a data folder, by a lock that ends with its holder."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from relit.errors import Conflict


@asynccontextmanager
async def alone(lock: Path, wait_s: float, taken: Conflict) -> AsyncIterator[None]:
    """Hold it. Raises ``taken`` when another process still has it after ``wait_s``."""
    await asyncio.to_thread(lock.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = asyncio.get_running_loop().time() + wait_s
        while not _locked(handle):
            if asyncio.get_running_loop().time() > end:
                raise taken
            await asyncio.sleep(0.02)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
