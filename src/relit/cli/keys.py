"""Keys of a terminal, one at a time, without Enter."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any, Self

_NAMES = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down", b"\x1b[H": "home", b"g": "home", b"\x1b[F": "end", b"G": "end",
    b"\x1b": "escape", b"\x04": "q", b"Q": "q",
}  # fmt: skip


class Keys:
    """Standard input while the block lasts: nothing is echoed, Ctrl-C still interrupts."""

    def __init__(self) -> None:
        self._file = sys.stdin.fileno()
        self._before: list[Any] = []
        self._rest = b""

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def read(self, seconds: float) -> str | None:
        """The next key's name, or the character that it types; ``None`` when there was none in that time."""
        if not self._rest:
            if not select.select([self._file], [], [], max(0.0, seconds))[0]:
                return None
            self._rest = os.read(self._file, 256) or b"q"  # the terminal is gone
        key, self._rest = first(self._rest)
        return _NAMES.get(key, key.decode(errors="replace"))


def first(data: bytes) -> tuple[bytes, bytes]:
    """The first key of what was typed, and the rest. A sequence ends with a letter or ``~``."""
    if data[:1] != b"\x1b" or len(data) < 3 or data[1:2] not in (b"[", b"O"):
        return data[:1], data[1:]
    for at in range(2, len(data)):
        if data[at : at + 1].isalpha() or data[at : at + 1] == b"~":
            return data[: at + 1], data[at + 1 :]
    return data, b""
