"""How much memory process trees hold, and what CPU they have used: one look at /proc for all. A page that two
processes share counts twice."""

from __future__ import annotations

import os
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
_BOX = b"bwrap"
_LIFE = "/relit-"  # groups that the keeper makes begin so


class Seen(NamedTuple):
    """A process: whose child it is, its session, its resident bytes, and its CPU seconds with those of children that
    ended; whether it is a sandbox's."""

    parent: int
    session: int
    resident: int
    cpu_s: float = 0.0
    box: bool = False


def look() -> dict[int, Seen]:
    """Every process that can be seen. Needs about 20 µs for each."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (seen := _seen(name)) is not None:
            found[int(name)] = seen
    return found


def _seen(pid: str) -> Seen | None:
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None  # it ended meanwhile
    try:
        stat = os.read(file, 2048)
    except OSError:
        return None
    finally:
        os.close(file)
    end = stat.rindex(b")")
    fields = stat[end + 2 :].split()
    cpu_s = sum(map(int, fields[11:15])) / _TICK
    return Seen(
        int(fields[1]), int(fields[3]), int(fields[21]) * _PAGE, cpu_s, stat[stat.index(b"(") + 1 : end] == _BOX
    )


class Forest:
    """All processes of one look."""

    def __init__(self, processes: dict[int, Seen]) -> None:
        self._processes = processes
        self._children: dict[int, list[int]] = {}
        for pid, seen in processes.items():
            for above in {seen.parent, seen.session} - {pid}:
                self._children.setdefault(above, []).append(pid)

    def alone(self, pid: int) -> int:
        """Resident bytes of one process; 0 when it is gone."""
        seen = self._processes.get(pid)
        return seen.resident if seen else 0

    def tree(self, root: int) -> int:
        """Resident bytes of a process, its session and all their descendants."""
        return sum(self.alone(pid) for pid in self.members(root))

    def cpu_s(self, root: int) -> float:
        """The CPU seconds of the same."""
        return sum(seen.cpu_s for pid in self.members(root) if (seen := self._processes.get(pid)) is not None)

    def members(self, root: int) -> set[int]:
        """The pids of the same, whether they are alive or not. Of a program in a sandbox all that is in it: there its
        orphans are the sandbox's children."""
        root = self._top(root)
        todo, found = [root], {root}
        while todo:
            young = [each for each in self._children.get(todo.pop(), ()) if each not in found]
            found.update(young)
            todo += young
        return found

    def _top(self, root: int) -> int:
        while (seen := self._processes.get(root)) is not None:
            above = self._processes.get(seen.parent)
            if above is None or not above.box:
                break
            root = seen.parent
        return root


def limit(pid: int) -> int | None:
    """The memory limit of the group that relit made for a process, if it has one and there is a limit."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
        if _LIFE not in path:
            return None
        with open(f"/sys/fs/cgroup{path}/memory.max", encoding="utf-8") as file:
            text = file.read().strip()
    except OSError:
        return None  # it ended, or its group has no such limit
    return int(text) if text.isdigit() else None
