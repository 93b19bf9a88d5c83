"""Which process runs on which core."""

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
