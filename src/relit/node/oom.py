"""Whom the kernel killed for want of memory: by its count of such kills, and by its log, which names them. A signal
alone does not tell: anybody can send SIGKILL."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from relit.lib import proc
from relit.lib.clock import SYSTEM_CLOCK

_KILLED = re.compile(rb"Killed process (\d+)")  # mm/oom_kill.c, of a machine's memory and of a cgroup's
_COUNT = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)
_RECORD_MOST = 8192  # bytes: the kernel's limit
REMEMBERED = 256
RECENT_S = 5.0
_FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO: the machine's own pids
OURS = -400  # of relit's own processes: agents go first


def rank(pid: int, score: int) -> None:
    """Tell the kernel how gladly to kill a process (-1000 never, 1000 first). A score may always be raised; who is not
    root may not lower it, and then it stays."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(score))


class OomLog:
    """Reads on from where the log is now. Where it may not be read (kernel.dmesg_restrict), or knows other pids than we
    (in a container), the count alone tells: ``sample`` it often."""

    def __init__(
        self, vmstat: Path = Path("/proc/vmstat"), log: Path = Path("/dev/kmsg"),
        now: Callable[[], float] = SYSTEM_CLOCK.monotonic,
    ) -> None:  # fmt: skip
        self._now = now
        self._unnamed_at = 0.0
        self._vmstat = vmstat
        self._count = self._counted()
        self._killed: dict[int, None] = {}
        self._unnamed = 0
        self._fd = -1
        with contextlib.suppress(OSError):
            if proc.pid_namespace() != _FIRST_NAMESPACE and log.is_char_device():
                return
            self._fd = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)

    def close(self) -> None:
        """Read no more."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            os.close(fd)

    def killed(self, pid: int) -> bool:
        """Whether it was one of those; asked once for each that ended by SIGKILL."""
        self.sample()
        if pid in self._killed:
            del self._killed[pid]
            return True
        if self._unnamed and self._now() - self._unnamed_at <= RECENT_S:  # nobody says whom: whoever is asked for first
            self._unnamed -= 1
            return True
        return False

    def sample(self) -> None:
        """Whether there were kills since."""
        count = self._counted()
        fresh, self._count = count - self._count, count
        if fresh > 0 and self._fd == -1:
            late = self._now() - self._unnamed_at > RECENT_S
            self._unnamed, self._unnamed_at = (0 if late else self._unnamed) + fresh, self._now()
        elif fresh > 0:
            self._read()

    def _counted(self) -> int:
        try:
            found = _COUNT.search(self._vmstat.read_bytes())
        except OSError:
            return 0
        return int(found[1]) if found else 0

    def _read(self) -> None:
        while True:
            try:
                record = os.read(self._fd, _RECORD_MOST)
            except BrokenPipeError:
                continue  # records were overwritten before we came: the next one is there
            except OSError:  # there are no more
                break
            if not record:
                break
            for found in _KILLED.finditer(record):
                self._killed[int(found[1])] = None
        while len(self._killed) > REMEMBERED:
            del self._killed[next(iter(self._killed))]
