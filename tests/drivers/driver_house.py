"""What the drivers' tests share: a keeper, and looks at processes in namespaces of their own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relit.drivers.base import Driver, Exit, Life
from relit.drivers.machine import Found, look
from relit.node.client import KeeperClient, ensure_keeper
from relit.node.down import down

ENV = {"PATH": os.environ["PATH"]}


_looked = functools.cache(look)


def machine() -> Found:
    """What was found here. Without sandboxes the test is skipped, except in CI."""
    found = _looked()
    if not (found.works and found.pids and found.network):
        assert os.environ.get("CI") != "true", found.why
        pytest.skip(found.why)
    return found


@asynccontextmanager
async def keeper_of(folder: Path, *, groups: bool = True) -> AsyncIterator[KeeperClient]:
    keeper = await ensure_keeper(folder / "run", groups=groups)
    try:
        yield keeper
    finally:
        await keeper.stop()
        await down(folder / "run")


async def ending(driver: Driver, key: str) -> Exit:
    async with asyncio.timeout(15):
        return await driver.wait(key)


async def line(pipe: Path) -> str:
    """What somebody writes into a named pipe. No thread waits for it: one that nobody writes into must end, too."""
    fd, told = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, told.set)
    try:
        async with asyncio.timeout(15):
            await told.wait()
        return os.read(fd, 1 << 16).decode().strip()
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)


async def heard(pipe: Path, life: Life) -> int:
    """The pid that a child writes into a named pipe, as it is outside of its life's pid namespace."""
    inside, namespace = int(await line(pipe)), os.readlink(f"/proc/{life.pid}/ns/pid")
    everybody = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return next(pid for pid in everybody if _namespace_of(pid) == namespace and _numbers(pid)[-1] == inside)


def _namespace_of(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return ""


def _numbers(pid: int) -> list[int]:
    """Its pids, from our namespace to its own."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next([int(word) for word in line.split()[1:]] for line in status.splitlines() if line.startswith("NSpid"))
