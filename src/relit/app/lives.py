"""Agents' lives, as this machine's node writes them down."""

from __future__ import annotations

import os
from pathlib import Path

from relit.control.paths import NODE_RECORD
from relit.lib.lives import Life
from relit.node import record


class Recorded:
    """Agents' lives, as their node writes them down."""

    def __init__(self, place: Path) -> None:
        self._path = place / NODE_RECORD
        self._stamp: tuple[int, int] | None = None
        self._known: dict[str, Life] = {}

    def __call__(self, agent: str) -> Life | None:
        """Its life now."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        if self._stamp != (found.st_mtime_ns, found.st_ino):
            self._stamp = (found.st_mtime_ns, found.st_ino)
            known = record.read(self._path.parent)
            self._known = {
                each.agent: Life(each.pid, each.start)
                for each in (known.instances if known else [])
                if each.pid is not None and each.start is not None
            }
        return self._known.get(agent)
