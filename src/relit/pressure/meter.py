"""How much memory there is, and how many CPUs: of the machine, or of the cgroup or container that relit itself lives
in."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from relit.pressure.admission import Room

_NONE = 1 << 60  # cgroups without a limit say a number that is larger than any machine


class Meter:
    """Reads the kernel's files. ``root``: where they are."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._meminfo = root / "proc/meminfo"
        self._groups = [each for each in _groups(root) if _limit(each) < _NONE]

    def room(self) -> Room:
        """Now: the tightest of all limits that hold here."""
        known = dict(line.split(":") for line in self._meminfo.read_text().splitlines())
        total, swapped = _kb(known["MemTotal"]), _kb(known.get("SwapCached", "0"))
        rooms = [Room(total, min(total, _kb(known["MemAvailable"]) + swapped))]
        rooms += [Room(limit, max(0, limit - _used(each))) for each in self._groups if (limit := _limit(each)) < _NONE]
        return min(rooms, key=lambda room: room.free)


def _kb(text: str) -> int:
    return int(text.split()[0]) << 10


def cores(root: Path = Path("/")) -> int:
    """CPUs that this process may use, one at least."""
    quotas = [found for groups in _around(root, "cpu") for each in groups if (found := _quota(each)) is not None]
    return max(1, math.ceil(min([len(os.sched_getaffinity(0)), *quotas])))


def _quota(group: Path) -> float | None:
    """CPUs; ``None``: as many as there are."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):
        return None
    return int(quota) / int(period) if quota.isdigit() and int(period) else None


def _groups(root: Path) -> list[Path]:
    """The memory cgroup of this process and those around it."""
    return next((found for found in _around(root, "memory") if any(_limit(each) < _NONE for each in found)), [])


def _around(root: Path, controller: str) -> Iterator[list[Path]]:
    """The cgroup of this process and those around it, in each hierarchy of either version that may have the
    controller."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controllers
            place = top / path.lstrip("/")
            yield [each for each in (place, *place.parents) if each == top or top in each.parents]


def _limit(group: Path) -> int:
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (value := _number(group / name)) is not None:
            return value
    return _NONE


def _used(group: Path) -> int:
    """Without what the kernel gives back by itself: pages of files that nobody has used lately, and those that are in
    swap already."""
    for name, before in (("memory.current", ""), ("memory.usage_in_bytes", "total_")):
        if (value := _number(group / name)) is not None:
            return max(0, value - _stat(group, f"{before}inactive_file", f"{before}swapcached"))
    return 0


def _stat(group: Path, *names: str) -> int:
    try:
        found = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return sum(int(found.get(name, 0)) for name in names)


def _number(path: Path) -> int | None:
    """``None``: there is no such file; no number: no limit."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else _NONE
