"""What the tests of logs share: a clock that stands still, and looks into logs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relit.lib.clock import SystemClock
from relit.node.lines import Last
from relit.node.logbook import Logbook
from relit.node.pump import Progress, Pump, Sizes
from relit.node.rawlog import Punch, punch
from relit.node.redact import Redactor

NOW = 1_795_678_812_123  # 2026-11-26T07:40:12.123Z
STAMP = "2026-11-26T07:40:12.123Z "


class StillClock(SystemClock):
    """Goes on only when told to."""

    def __init__(self) -> None:
        self.ms = NOW

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


def no_punch(fd: int, offset: int, length: int) -> None:
    """A filesystem that cannot."""
    raise OSError(95, "Operation not supported")


class Log:
    """An instance's log in a folder, and its writer."""

    def __init__(self, folder: Path, *, limit: int = 1 << 20, keep: int = 5, most: int = 256 << 20) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.raw, self.out = folder / "raw.log", folder / "out.log"
        self.clock = StillClock()
        self.sizes = Sizes(limit, keep, most)
        self._fd: int | None = None

    def pump(self, *secrets: str, punch: Punch = punch) -> Pump:
        """A pump, as a node makes it at its start."""
        made = Pump(self.raw, self.out, Redactor(secrets), clock=self.clock, sizes=self.sizes, punch=punch)
        made.prepare()
        return made

    def write(self, text: str | bytes) -> None:
        """As an instance does: it appends, and keeps the file open."""
        if self._fd is None:
            self._fd = os.open(self.raw, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        """The instance has ended."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def lines(self) -> list[str]:
        """All lines that are kept, without their times."""
        return [text.partition(" ")[2] for text in self.texts()]

    def texts(self) -> list[str]:
        """All lines that are kept."""
        book = Logbook(self.out)
        try:
            book.since(0)
            return list(book.texts())
        finally:
            book.close()


def run(pump: Pump, last: Last = "waits") -> None:
    """Steps until there is nothing more to do, and one that finds that so."""
    steps = [Progress(more=True)]
    while any(progress.more for progress in steps[-2:]):
        steps.append(pump.step(last))
        assert not steps[-1].trouble


def disk(path: Path) -> int:
    """Bytes of disk that a file takes."""
    return path.stat().st_blocks * 512


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Looks until it holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def mounted(place: Path, kind: str) -> Iterator[Path]:
    """A small disk."""
    place.mkdir()
    done = subprocess.run(["mount", "-t", kind, "-o", "size=2m", "none", str(place)], check=False, capture_output=True)
    if done.returncode:
        missing = f"needs the right to mount a {kind} (root)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave no room; what to remove to have it again."""
    ballast = place / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    return ballast
