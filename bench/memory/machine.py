"""A memory cgroup that plays the node's machine, and a swap file beside it. cgroup v1, as root."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")


class Machine:
    """A cgroup with a limit."""

    def __init__(self, name: str, limit: int) -> None:
        self.place = V1 / f"relit-bench-{name}-{os.getpid()}"
        self.place.mkdir()
        (self.place / "memory.limit_in_bytes").write_text(str(limit))

    def enter(self) -> None:
        """For ``preexec_fn``: the new process is in it, with all that it starts."""
        (self.place / "tasks").write_text("0")

    def oom_kills(self) -> int:
        """How often the kernel had to kill in it."""
        lines = dict(line.split() for line in (self.place / "memory.oom_control").read_text().splitlines())
        return int(lines["oom_kill"])

    def used(self) -> int:
        """Bytes."""
        return int((self.place / "memory.usage_in_bytes").read_text())

    def remove(self) -> None:
        """When nobody is in it any more."""
        for _ in range(200):
            for pid in (self.place / "tasks").read_text().split():
                try:
                    os.kill(int(pid), 9)
                except ProcessLookupError:
                    continue
            try:
                self.place.rmdir()
                return
            except OSError:
                time.sleep(0.05)


@contextmanager
def machine(name: str, limit: int) -> Iterator[Machine]:
    """For as long as the block lasts."""
    made = Machine(name, limit)
    try:
        yield made
    finally:
        made.remove()


@contextmanager
def swap_file(folder: Path, size: int) -> Iterator[bool]:
    """False: no swap can be switched on here."""
    place = folder / "swap"
    with place.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    place.chmod(0o600)
    subprocess.run(["mkswap", place], check=True, capture_output=True)
    works = subprocess.run(["swapon", place], capture_output=True).returncode == 0
    try:
        yield works
    finally:
        if works:
            subprocess.run(["swapoff", place], check=True)
        place.unlink()
