"""The guard: a fork of the keeper that lets frozen processes go when the keeper is killed, or hangs. Standard library
only. It shares the keeper's memory, sleeps on a pipe, and ends with the keeper.
"""

import json
import os
import select
import signal
import time
from collections.abc import Callable

from relit.node import kin, still

HOUR_S = 3600.0  # it looks so often at least: parked ones have years
LATE_S = 0.25  # after the time that the keeper had set itself


class Guard:
    """The keeper's end. The guard is started when it is first told something, and again when it was killed.

    ``go_home`` takes the keeper out of the group that is meant for a life: the guard must not be born in it."""

    def __init__(self, go_home: Callable[[], None]) -> None:
        self._go_home = go_home
        self.pid = 0
        self._pipe = -1

    def tell(self, stills: list[still.Still]) -> None:
        """All that stands still from now on. Once told it holds, also when the keeper dies right after. ``OSError``."""
        if self._pipe == -1:
            if not stills:
                return
            self._start()
        line = json.dumps([each.view() for each in stills]).encode() + b"\n"
        try:
            _write_all(self._pipe, line)
        except BrokenPipeError:
            self._start()
            _write_all(self._pipe, line)
        except BlockingIOError:  # it lives and reads no more: somebody stopped it
            kin.send(self.pid, signal.SIGKILL)
            self._start()
            _write_all(self._pipe, line)

    def _start(self) -> None:
        if self._pipe != -1:
            os.close(self._pipe)
            self._pipe = -1
        self._go_home()
        reader, self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.pid = os.fork()  # the keeper has one thread
        if self.pid == 0:
            _be_guard(reader)
        os.close(reader)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _be_guard(pipe: int) -> None:
    """The guard's process, from first to last. Never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends with the keeper, not before
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.closerange(3, pipe)  # the keeper's lock and sockets above all: they must end with the keeper
        os.closerange(pipe + 1, 1 << 20)
        with open("/proc/self/comm", "w") as file:
            file.write("relit-guard")
        watch(pipe)
        status = 0
    finally:
        os._exit(status)


def watch(pipe: int) -> None:
    """Listen until the keeper's end of the pipe is closed; let go whatever is overdue, and at the end the rest."""
    stills: list[still.Still] = []
    rest = b""
    while True:
        if not select.select([pipe], [], [], _patience(stills))[0]:
            late = [each for each in stills if _left_s(each) <= 0]
            stills = [each for each in stills if each not in late]
            _let_go(late)
            continue
        data = os.read(pipe, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            stills = [still.read(view) for view in json.loads(lines[-1])]
    _let_go(stills)


def _patience(stills: list[still.Still]) -> float | None:
    return min(HOUR_S, max(0.0, min(_left_s(each) for each in stills))) if stills else None


def _left_s(each: still.Still) -> float:
    return each.until_ms / 1000 + LATE_S - time.clock_gettime(time.CLOCK_BOOTTIME)


def _let_go(stills: list[still.Still]) -> None:
    for each in stills:
        still.let_go(each)
