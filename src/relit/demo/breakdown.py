"""An agent that relit did not write: its configuration is broken on disk and its process killed, and relit heals it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from relit.client import Client
from relit.demo import processes
from relit.demo.configuration import WATCHMAN, WATCHMANS_CONFIG
from relit.demo.figures import Breakdown
from relit.demo.installation import Installation
from relit.demo.recovery import recovered
from relit.errors import NotFound
from relit.lib.clock import SYSTEM_CLOCK

KNOWN_GOOD = "known-good"
_PATIENCE_S = 60
_LOOK_S = 0.1
_BROKEN = b'{"port": '


async def happen(house: Installation, client: Client, tell: Callable[[float, str], None]) -> Breakdown | None:
    """Break it, and see what becomes of it; ``None`` when it does not come back. ``tell``: (monotonic s, what)."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await _happen(house, client, tell)
    except TimeoutError:
        tell(SYSTEM_CLOCK.monotonic(), f"the {WATCHMAN} is not back after {_PATIENCE_S} s")
        return None


async def _happen(house: Installation, client: Client, tell: Callable[[float, str], None]) -> Breakdown:
    await known_good(client, WATCHMAN)
    pid = await ready(house, WATCHMAN)
    config = house.home(WATCHMAN) / WATCHMANS_CONFIG
    was = config.read_bytes()
    config.write_bytes(_BROKEN)
    at, struck_ms = SYSTEM_CLOCK.monotonic(), SYSTEM_CLOCK.now_ms()
    processes.kill(pid)
    tell(at, f"broke the {WATCHMAN}'s configuration and killed it (pid {pid})")
    went = await recovered(client, WATCHMAN, struck_ms)
    tell(at + went.back_ms / 1000, f"the {WATCHMAN} is back; relit {went.words}")
    return Breakdown(
        found_ms=went.found_ms,
        healed_s=went.back_ms / 1000,
        rung=went.rung,
        as_before=config.read_bytes() == was,
        kept=_holds(house.data / "agents" / WATCHMAN / "restore", _BROKEN),
    )


async def known_good(client: Client, agent: str) -> None:
    """Until there is something to go back to."""
    while True:
        try:
            await client.volumes.resolve(agent, KNOWN_GOOD)
            return
        except NotFound:
            await asyncio.sleep(_LOOK_S)


async def ready(house: Installation, agent: str) -> int:
    """Until it is ready; answers its pid."""
    while (pid := await asyncio.to_thread(house.pid, agent)) is None:  # noqa: ASYNC110 - it happens in other processes
        await asyncio.sleep(_LOOK_S)
    return pid


def _holds(folder: Path, content: bytes) -> bool:
    """Whether some file below it has that content."""
    return any(each.is_file() and each.read_bytes() == content for each in folder.rglob("*"))
