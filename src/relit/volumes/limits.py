"""How large a home may be, and what makes it so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from relit.errors import VolumeTooLarge
from relit.lib.durations import size
from relit.manifest import Snapshot

_NAMED = 10


class Limits(msgspec.Struct, frozen=True):
    """How large a home may be."""

    bytes: int = 20 << 30
    files: int = 500_000

    def kept(self, taken: Snapshot) -> bool:
        return taken.bytes <= self.bytes and taken.files <= self.files


def too_large(limits: Limits, taken: Snapshot, sizes: Mapping[bytes, int], home: Path, agent: str) -> VolumeTooLarge:
    """Names the biggest files, or the folders that hold the most. ``sizes``: each path's bytes."""
    if taken.bytes > limits.bytes:
        top = "the biggest: " + ", ".join(f"{_shown(path)} {size(number)}" for path, number in biggest(sizes))
    else:
        top = "most are in: " + ", ".join(f"{_shown(path)} {number}" for path, number in fullest(sizes))
    return VolumeTooLarge(
        f"no snapshot of {agent} was taken: it has {taken.files} paths and {size(taken.bytes)}",
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
