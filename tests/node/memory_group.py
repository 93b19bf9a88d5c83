"""A memory cgroup that plays a small machine. cgroup v1, as root."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

V1 = Path("/sys/fs/cgroup/memory")


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """The group's folder; whoever writes 0 into ``tasks`` is in it. Without swap: what is over the limit is killed."""
    if not os.access(V1 / "cgroup.procs", os.W_OK):
        pytest.skip("no memory cgroup (v1) can be made here")
    place = V1 / f"relit-test-{os.getpid()}-{time.monotonic_ns()}"
    place.mkdir()
    try:
        (place / "memory.limit_in_bytes").write_text(str(limit))
        yield place
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                place.rmdir()
                break
            time.sleep(0.05)
