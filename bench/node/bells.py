"""Children ring when they start: one named pipe for all of them, a line with name, pid and clock for each life."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
WAIT_S = 60.0


class Ring(NamedTuple):
    """One life's beginning: ``at_ns`` is the monotonic clock at its first instruction."""

    pid: int
    at_ns: int


class Bells:
    """``last`` is the newest ring of each name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path = folder / "bell"
        os.mkfifo(self.path, 0o600)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""
        self.last: dict[str, Ring] = {}

    def until(self, names: Collection[str], after_ns: int = 0, limit_s: float = WAIT_S) -> None:
        """Wait until all of them have begun a life later than ``after_ns``."""
        deadline = time.monotonic() + limit_s
        missing = {name for name in names if self._older(name, after_ns)}
        while missing:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SystemExit(f"{len(missing)} children did not start in {limit_s:.0f} s: {sorted(missing)[:5]} …")
            if select.select([self._fd], [], [], left)[0]:
                missing -= {name for name in self._read() if not self._older(name, after_ns)}

    def _older(self, name: str, after_ns: int) -> bool:
        return name not in self.last or self.last[name].at_ns <= after_ns

    def _read(self) -> list[str]:
        *lines, self._rest = (self._rest + os.read(self._fd, 1 << 16)).split(b"\n")
        heard = []
        for line in lines:
            name, pid, at_ns = line.decode().split()
            self.last[name] = Ring(int(pid), int(at_ns))
            heard.append(name)
        return heard


def compiled(folder: Path) -> Path:
    """The child, compiled: static where the C library allows, because that starts fastest."""
    target = folder / "child"
    for more in (["-static"], []):
        done = subprocess.run(
            ["cc", "-O2", *more, "-o", str(target), str(HERE / "child.c")], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return target
    raise SystemExit(f"the child was not compiled:\n{done.stderr}")
