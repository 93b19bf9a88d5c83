"""Whose process it is that works on something, and whether it has died."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from relit.lib import proc

DIES_S = 1.0  # so long after it hung up it is waited for its death: who lives on has only changed its mind
_LOOK_S = 0.02


@dataclass(frozen=True)
class Life:
    """One life of an agent: its main process."""

    pid: int
    start: int


Lives = Callable[[str], Life | None]
"""An agent's life now; ``None``: it is not known."""


async def died(life: Life | None) -> bool:
    """Whether whoever hung up just now has died."""
    if life is None:
        return False
    until = asyncio.get_running_loop().time() + DIES_S
    while proc.start_time(life.pid) == life.start:
        if asyncio.get_running_loop().time() > until:
            return False
        await asyncio.sleep(_LOOK_S)
    return True
