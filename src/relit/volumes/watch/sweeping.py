"""No events at all: every snapshot looks at all names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from relit.volumes.base import Changes
from relit.volumes.watch.maps import Mappings


class SweepingWatch:
    """Knows only what is mapped."""

    def __init__(self, home: Path, mappings: Mappings, pids: Callable[[], Iterable[int]] | None) -> None:
        self.exact = False
        self._home = home
        self._mappings = mappings
        self._pids = pids

    def drain(self) -> Changes:
        """Anything may have changed."""
        return Changes(everything=True)

    def mapped(self, recent_s: float = 0.0) -> frozenset[bytes]:
        """Files that some process has mapped shared and writable, now or up to ``recent_s`` ago."""
        return self._mappings.below(self._home, self._pids, recent_s)

    def close(self) -> None:
        """Nothing is held."""


class Sweeping:
    """Works everywhere."""

    def __init__(self, mappings: Mappings) -> None:
        self.mappings = mappings

    def watch(
        self, home: Path, skip: Sequence[bytes] = (), pids: Callable[[], Iterable[int]] | None = None
    ) -> SweepingWatch:
        """Begin."""
        return SweepingWatch(home, self.mappings, pids)

    def close(self) -> None:
        """Nothing is held."""
