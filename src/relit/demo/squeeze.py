"""Memory becomes short: an agent that is idle makes room for others, and its next message starts it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from relit.client import Client
from relit.demo.breakdown import ready
from relit.demo.configuration import GLUTTON, MESSENGER
from relit.demo.figures import Squeeze
from relit.demo.installation import Installation
from relit.events import Event
from relit.lib.clock import SYSTEM_CLOCK
from relit.node import gauge
from relit.node.gauge import Gauge
from relit.pressure.footprint import MB

_PATIENCE_S = 60
_LOOK_S = 0.05
_OVER = 24 * MB  # below the mark


async def happen(house: Installation, client: Client, tell: Callable[[float, str], None]) -> Squeeze | None:
    """Take what is left, and see who goes and comes back; ``None`` when that does not come. ``tell``: (monotonic s,
    what)."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await _happen(house, client, tell)
    except TimeoutError:
        tell(SYSTEM_CLOCK.monotonic(), f"nobody made room, or came back, after {_PATIENCE_S} s")
        return None
    finally:
        house.glut.unlink(missing_ok=True)


async def _happen(house: Installation, client: Client, tell: Callable[[float, str], None]) -> Squeeze:
    await ready(house, GLUTTON)
    await ready(house, MESSENGER)
    began = SYSTEM_CLOCK.now_ms()
    now = await _gauge(house, lambda now: bool(now.capacity))
    house.glut.write_text(str(now.free - now.amber + _OVER))
    short = await _event(client, "node.pressure", began)
    gone = await _event(client, "instance.died", (await _event(client, "instance.parked", began)).at)
    at = SYSTEM_CLOCK.monotonic()
    tell(at, f"memory became {short.data['level']}: the {MESSENGER}, which had nothing to do, was stopped")
    house.glut.unlink()
    asked = SYSTEM_CLOCK.monotonic()
    said = await client.result((await client.send(MESSENGER, "Are you still there?")).id, type=str)
    back = SYSTEM_CLOCK.monotonic()
    tell(back, f"its next message started the {MESSENGER}, which answered after {back - asked:.1f} s")
    return Squeeze(
        made_room_s=(gone.at - short.at) / 1000,
        answered=bool(said),
        seconds=back - asked,
    )


async def _gauge(house: Installation, true: Callable[[Gauge], bool]) -> Gauge:
    while True:
        found = gauge.read(house.data / "run", SYSTEM_CLOCK.now_ms())
        if found is not None and true(found):
            return found
        await asyncio.sleep(_LOOK_S)


async def _event(client: Client, name: str, since_ms: int) -> Event:
    """The first of that name since then."""
    async with aclosing(client.events([name], after="start")) as events:
        async for event in events:
            if event.at >= since_ms and event.data.get("instance", MESSENGER) == MESSENGER:
                return event
    raise AssertionError("it goes on for ever")
