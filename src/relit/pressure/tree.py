"""What process trees use: one look at the process table for any number of them."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


class Use(msgspec.Struct, frozen=True):
    """Bytes that a tree has for itself, and those that its largest process shares; CPU seconds."""

    resident: int = 0
    cpu_s: float = 0.0


def uses(roots: Iterable[int]) -> dict[int, Use]:
    """Of the trees below these processes, themselves included. A tree that is gone uses nothing."""
    parents = {int(name): line for name in os.listdir("/proc") if name.isdigit() and (line := _stat(name))}
    children: dict[int, list[int]] = {}
    for pid, line in parents.items():
        children.setdefault(int(line[1]), []).append(pid)
    return {root: _use(root, parents, children) for root in roots}


def _use(root: int, stats: dict[int, list[bytes]], children: dict[int, list[int]]) -> Use:
    found, resident, shared, ticks = [root] if root in stats else [], 0, 0, 0
    for pid in found:  # grows meanwhile
        found += children.get(pid, [])
        ticks += sum(map(int, stats[pid][11:15]))
        own, common = _memory(pid)
        resident += own
        shared = max(shared, common)
    return Use(resident + shared, ticks / _TICK)


def _memory(pid: int) -> tuple[int, int]:
    """Bytes: its own, and those of files and shared memory, which others may have too."""
    fields = _read(f"/proc/{pid}/statm").split()
    return ((int(fields[1]) - int(fields[2])) * _PAGE, int(fields[2]) * _PAGE) if fields else (0, 0)


def _stat(pid: str) -> list[bytes]:
    """The fields after the name; empty when it is gone."""
    line = _read(f"/proc/{pid}/stat")
    return line[line.rindex(b")") + 2 :].split() if line else []


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(4096)
    except OSError:
        return b""
