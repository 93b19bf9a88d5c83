"""Which process runs on which core, and how long it waits for that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def pin(pids: Iterable[int], cores: set[int]) -> None:
    """All their threads there and nowhere else."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


@contextmanager
def apart(ours: Iterable[int], others: Iterable[int]) -> Iterator[bool]:
    """Inside, ``ours`` have one core for themselves, and ``others`` the rest. False: there is only one."""
    cores = os.sched_getaffinity(0)
    last = max(cores)
    if len(cores) > 1:
        pin(ours, {last})
        pin(others, cores - {last})
    try:
        yield len(cores) > 1
    finally:
        pin([*ours, *others], cores)


def waited_s(pids: Iterable[int]) -> float:
    """How long their threads were ready to run and did not, in seconds."""
    threads = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[1]) for task in threads) / 1e9
