"""The program in a box, as it is seen from outside.

bubblewrap stays in front of its program and passes no signals on. With a pid namespace it is there twice::

    main (bwrap) ── init (bwrap, pid 1 inside) ── the program (pid 2 inside)
                                               └─ orphans of the program

Without one the program is the child of main. A signal that ended it is told by bubblewrap as exit code 128 + signal.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec

from relit.drivers.base import Exit
from relit.lib import proc

_FIRST = 2  # the program's pid in its namespace
_SIGNALS = range(129, 129 + 64)


class Tenant(msgspec.Struct, frozen=True):
    """One process: pid and start time as this machine counts."""

    pid: int
    start: int


def find(main: int) -> Tenant | None:
    """The program behind bubblewrap's ``main``; ``None`` when it is not there yet, or not any more."""
    pid = _program(main)
    start = proc.start_time(pid) if pid is not None else None
    return None if pid is None or start is None else Tenant(pid, start)


def _program(main: int) -> int | None:
    outside = len(_numbers(main))
    for child in _children(main):
        if len(_numbers(child)) <= outside:
            return child
        return next((pid for pid in _children(child) if _numbers(pid)[-1:] == [_FIRST]), None)
    return None


def group(main: int) -> list[Tenant]:
    """Main's process group without the bubblewraps."""
    program = _program(main)
    spared = {main, *(pid for pid in _children(main) if pid != program)}
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in spared]
    starts = {pid: proc.start_time(pid) for pid in pids if _group_of(pid) == main}
    return [Tenant(pid, start) for pid, start in starts.items() if start is not None]


def send(who: Tenant, number: int) -> bool:
    """Signal it; false when it is gone."""
    try:
        pidfd = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return False
    try:
        if proc.start_time(who.pid) != who.start:
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def told(end: Exit) -> Exit:
    """How the program ended, out of how bubblewrap did. An exit code of 129 to 192 of its own is told as a signal."""
    return Exit(signal=end.code - 128) if end.code is not None and end.code in _SIGNALS else end


def _children(pid: int) -> list[int]:
    if os.path.exists("/proc/thread-self/children"):
        return [int(word) for word in _text(pid, f"task/{pid}/children").split()]
    return searched_children(pid)


def searched_children(pid: int) -> list[int]:
    """The same where the kernel keeps no such lists."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [each for each in pids if f"\nPPid:\t{pid}\n" in _text(each, "status")]


def _numbers(pid: int) -> list[int]:
    """Its pids, from our namespace to its own."""
    lines = _text(pid, "status").splitlines()
    return next(([int(word) for word in line.split()[1:]] for line in lines if line.startswith("NSpid:")), [])


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _text(pid: int, name: str) -> str:
    """A file of its folder in /proc; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
