"""No events at all: every snapshot looks at all names."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from relit.volumes.base import Changes
from relit.volumes.watch.maps import Mappings


class SweepingWatch:
    """Knows only what is mapped."""

    def __init__(self, home: Path, mappings: Mappings) -> None:
        self.exact = False
        self._home = home
        self._mappings = mappings

    def drain(self) -> Changes:
        """Anything may have changed."""
        return Changes(everything=True)

    def mapped(self, recent_s: float = 0.0, pids: Collection[int] | None = None) -> frozenset[bytes]:
        """Files that some process has mapped shared and writable, now or up to ``recent_s`` ago; or one of ``pids``."""
        return self._mappings.below(os.fsencode(os.path.realpath(self._home)), recent_s, pids)

    def mapped_inodes(self) -> frozenset[int]:
        """Of all that any process had mapped, by whatever name, when all were asked last."""
        return self._mappings.inodes()

    def close(self) -> None:
        """Nothing is held."""


class Sweeping:
    """Works everywhere."""

    def __init__(self, mappings: Mappings) -> None:
        self.mappings = mappings

    def watch(self, home: Path, skip: Sequence[bytes] = ()) -> SweepingWatch:
        """Begin."""
        return SweepingWatch(home, self.mappings)

    def close(self) -> None:
        """Nothing is held."""
