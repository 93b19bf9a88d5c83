"""What the node's tests share: a bell that real children ring, and looks into /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from relit.lib import proc

ENV = {"PATH": os.environ["PATH"]}


class Bell:
    """A pipe with a name: a child rings with ``echo word > path``, the test waits for the word."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o600)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self._words: asyncio.Queue[str] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._fd, 65536)).split(b"\n")
        for line in lines:
            self._words.put_nowait(line.decode())

    async def next(self, timeout: float = 15.0) -> str:
        async with asyncio.timeout(timeout):
            return await self._words.get()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


def rings(bell: Bell, then: str = "exec sleep 1000") -> list[str]:
    """A command that rings with its pid and then does something."""
    return ["sh", "-c", f"echo $$ > {bell.path}; {then}"]


async def gone(pid: int, timeout: float = 15.0) -> None:
    """Wait for the end of any process, by a pidfd."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def living(pid: int) -> bool:
    return proc.start_time(pid) is not None


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_kb(pid: int, what: str = "VmRSS") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1])
    raise AssertionError(what)


def pss_kb(pid: int) -> int:
    with contextlib.suppress(PermissionError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
