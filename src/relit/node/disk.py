"""Watches the disk of the data folder. When room is low, what can be done without goes: old logs. State never does."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relit.pressure.space import Space, spaced

LOOK_S = 10.0
KEEPS = {"low": 1, "least": 0}  # predecessors of each instance's log


class Disk:
    """Of one node. ``logs``: where instances' logs lie."""

    def __init__(self, place: Path, logs: Path, note: Callable[[str, dict[str, Any]], None]) -> None:
        self._place = place
        self._logs = logs
        self._note = note
        self.space = Space()

    async def run(self) -> None:
        """For ever."""
        while True:
            with contextlib.suppress(OSError):  # a folder that is gone is other people's trouble
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once. OSError."""
        found = os.statvfs(self._place)
        free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        before, self.space = self.space, spaced(self.space, free, total)
        if self.space.room != "ample":
            shed = await asyncio.to_thread(shed_logs, self._logs, KEEPS[self.space.room])
        else:
            shed = 0
        if shed or self.space.room != before.room:
            data = {"room": self.space.room, "before": before.room, "free": free, "total": total, "shed": shed}
            self._note("node.disk", data)


def shed_logs(agents: Path, keep: int) -> int:
    """Remove all but so many predecessors of every log; answers the bytes that this freed."""
    shed = 0
    for each in agents.glob("*/log/out.log.*"):
        number = each.name.rpartition(".")[2]
        if number.isdigit() and int(number) > keep:
            with contextlib.suppress(OSError):
                size = each.stat().st_size
                each.unlink()
                shed += size
    return shed
