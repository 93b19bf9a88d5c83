"""Who did what when, written by the steps themselves: evidence that does not pass through relit's store.

Each step's body appends one line as it begins, in a single ``write`` to a file opened for appending, so that a line
is whole or absent however the process dies. Times are the machine's monotonic clock, the same in every process.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from relit.lib.clock import SYSTEM_CLOCK


class Line(msgspec.Struct, frozen=True):
    """The body of ``step`` for ``subject`` began in process ``pid``."""

    at: float
    pid: int
    step: str
    subject: str

    @property
    def place(self) -> tuple[str, str]:
        """Which step it was, whoever ran it."""
        return (self.step, self.subject)


def mark(file: Path, step: str, subject: str) -> None:
    """Append a line: this process begins ``step`` for ``subject``."""
    line = msgspec.json.encode(Line(SYSTEM_CLOCK.monotonic(), os.getpid(), step, subject)) + b"\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read(file: Path) -> list[Line]:
    """All lines so far, in the order in which they were written."""
    if not file.exists():
        return []
    return [msgspec.json.decode(line, type=Line) for line in file.read_bytes().splitlines()]
