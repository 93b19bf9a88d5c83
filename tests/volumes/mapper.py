"""Another process that writes to a file through memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAPS = """
import mmap, os, sys
path, access = os.fsencode(sys.argv[1]), sys.argv[2]
fd = os.open(path, os.O_RDWR)
kind = mmap.MAP_PRIVATE if access == "private" else mmap.MAP_SHARED
prot = mmap.PROT_READ if access == "read" else mmap.PROT_READ | mmap.PROT_WRITE
held = mmap.mmap(fd, 0, kind, prot)
os.close(fd)
print("mapped", flush=True)
for line in sys.stdin:
    if line == "store\\n":
        held[0] += 1
    print("done", flush=True)
"""


class Mapper:
    """Another process with a file mapped."""

    def __init__(self, path: Path, access: str, *before: str) -> None:
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", MAPS, path, access],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.says("mapped")

    def says(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == word + "\n"

    def store(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("store\n")
        self.process.stdin.flush()
        self.says("done")


@contextmanager
def mapped(path: Path, access: str = "write", *before: str) -> Iterator[Mapper]:
    mapper = Mapper(path, access, *before)
    with mapper.process:
        yield mapper
        assert mapper.process.stdin is not None
        mapper.process.stdin.close()
