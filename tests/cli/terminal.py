"""A person at a terminal, for commands that want one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time

from cli_house import House


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Person:
    """Types at a terminal, and looks until something is there."""

    def __init__(self, house: House, *words: str) -> None:
        self._screen, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "relit.cli", *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=house.folder,
            env={**house.environment, "TERM": "xterm", "LANG": "C.UTF-8"}, start_new_session=True,
            preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def types(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def sees(self, text: str, seconds: float = 40) -> None:
        """Reads until it is there; what came up to it is forgotten."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if select.select([self._screen], [], [], left)[0]:
                self.seen += os.read(self._screen, 65536).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]

    def leaves(self, key: str = "\x04") -> int:
        self.types(key)
        return self.process.wait(20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._screen)
