"""How large a home may be, and what makes it so."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from relit.errors import VolumeTooLarge
from relit.lib.durations import size
from relit.volumes.look import Looked
from relit.volumes.tree import Tree

_NAMED = 10


class Limits(msgspec.Struct, frozen=True):
    """How large a home may be."""

    bytes: int = 20 << 30
    files: int = 500_000

    def kept(self, files: int, total: int) -> bool:
        """Whether so many paths and bytes are allowed."""
        return total <= self.bytes and files <= self.files


def foreseen(tree: Tree, looked: Looked) -> tuple[int, int]:
    """(paths, bytes) of a home whose changes are known, and not read yet. Not more than it has: a file of several names
    may count by another one."""
    files, total = len(tree.entries), tree.bytes
    for path, found in looked.items():
        before = tree.entries.get(path)
        files += (found is not None) - (before is not None)
        total -= before.size if before is not None and not before.hard else 0
        if found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            total += found.st_size
    return files, total


def too_large(
    limits: Limits, files: int, total: int, sizes: Mapping[bytes, int], home: Path, agent: str
) -> VolumeTooLarge:
    """Names the biggest files, or the folders that hold the most. ``sizes``: each path's bytes."""
    if total > limits.bytes:
        top = "the biggest: " + ", ".join(f"{_shown(path)} {size(number)}" for path, number in biggest(sizes))
    else:
        top = "most are in: " + ", ".join(f"{_shown(path)} {number}" for path, number in fullest(sizes))
    return VolumeTooLarge(
        f"no snapshot of {agent} was taken: it has {files} paths and {size(total)}",
        why=f"allowed are {limits.files} and {size(limits.bytes)}; {top}",
        fix=f"list what need not be kept in {home / '.relitignore'}, or raise max_size or max_files of "
        f"[agents.{agent}.snapshots]",
    )


def biggest(sizes: Mapping[bytes, int], count: int = _NAMED) -> list[tuple[bytes, int]]:
    """The biggest files, biggest first."""
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:count]


def fullest(paths: Iterable[bytes], count: int = _NAMED) -> list[tuple[bytes, int]]:
    """The folders that hold the most paths themselves, the fullest first."""
    held = Counter(path.rpartition(b"/")[0] for path in paths if path)
    return sorted(held.items(), key=lambda item: (-item[1], item[0]))[:count]


def _shown(path: bytes) -> str:
    return path.decode(errors="backslashreplace") or "."
