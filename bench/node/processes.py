"""What /proc tells of processes: memory, CPU, who belongs to whom. And a wait."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def until(done: Callable[[], bool], failure: str, *, every_s: float = 0.005, limit_s: float = 60) -> None:
    """Return when it is done."""
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(failure)
        time.sleep(every_s)


def pss_kb(pids: Iterable[int]) -> float:
    """Their proportional share of memory, together."""
    return sum(_pss_kb(pid) for pid in pids)


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise SystemExit(f"process {pid} shows no memory")


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of all their threads, by the scheduler's own count of nanoseconds."""
    threads = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9


def descendants(root: int) -> list[int]:
    """A process and everything below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def watched(pids: Iterable[int]) -> list[int]:
    """A pidfd for each, for ``gone``."""
    return [os.pidfd_open(pid) for pid in pids]


def gone(pidfds: list[int], since: float, limit_s: float = 60) -> list[float]:
    """Wait until these processes have ended; answers when each of them had, in seconds after ``since``."""
    deadline, ends = time.monotonic() + limit_s, []
    while pidfds:
        if not (over := select.select(pidfds, [], [], max(0.0, deadline - time.monotonic()))[0]):
            raise SystemExit(f"{len(pidfds)} processes did not end in {limit_s:.0f} s")
        for pidfd in over:
            pidfds.remove(pidfd)
            os.close(pidfd)
            ends.append(time.monotonic() - since)
    return ends


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that are free now."""
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(door.getsockname()[1]) for door in doors]
    for door in doors:
        door.close()
    return ports
