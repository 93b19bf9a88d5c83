"""A parked instance that stands still: frozen, and out of memory as far as there is swap, until somebody wakes it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence

import msgspec

from relit.drivers.base import Driver, Exit, Life
from relit.errors import KeeperUnreachable, RelitError
from relit.lib.pageout import page_out
from relit.node.holds import Hold

_LOG = logging.getLogger(__name__)
LOOK_S = 5.0  # between looks whether it stands: its keeper may have been killed, and then it goes on
TRIES, AGAIN_S = 8, 0.25  # a snapshot may have it frozen just now


async def stand_still(
    driver: Driver, life: Life, hold: Hold, asked: asyncio.Event, end: Coroutine[object, object, Exit],
    group: asyncio.TaskGroup, stands: Callable[[], None],
) -> Exit | None:  # fmt: skip
    """Until it is woken, held, or ``asked`` to stop; then it goes on. Its exit when it ended meanwhile. One that would
    not stand still is to be stopped instead: its file says so then. ``stands`` is called once it does."""
    ended, paged = group.create_task(end), False

    def stays() -> bool:
        return hold.freezes and not asked.is_set() and not ended.done()

    while stays():
        change = hold.change  # of whatever comes from now on
        pids = await _parked(driver, life, stays)
        if not pids and stays():
            _stop_instead(hold)
        if not pids or not stays():
            break
        if not paged:
            paged = True
            stands()
            group.create_task(_page_out(life.name, pids, stays))
        await _something(ended, change, asked)
    if ended.done():
        return ended.result()
    ended.cancel()
    await _woken(driver, life)
    return None


async def _parked(driver: Driver, life: Life, stays: Callable[[], bool]) -> Sequence[int]:
    for number in range(TRIES):
        if number:
            await asyncio.sleep(AGAIN_S)
        if not stays():
            break
        try:
            if pids := await driver.park(life.key):
                return pids
        except RelitError as error:
            _LOG.warning("%s is not parked yet: %s", life.name, error)
    return ()


def _stop_instead(hold: Hold) -> None:
    """On a full disk it is tried again."""
    with contextlib.suppress(OSError):
        if hold.parked is not None:
            hold.park(msgspec.structs.replace(hold.parked, deed="stop"))


async def _page_out(name: str, pids: Sequence[int], stays: Callable[[], bool]) -> None:
    try:
        for pid in pids:
            if stays():
                await asyncio.to_thread(page_out, [pid])
    except OSError as error:
        _LOG.warning("%s stands still, and stays in memory: %s", name, error)


async def _something(ended: asyncio.Task[Exit], *events: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    waits = [loop.create_task(each.wait()) for each in events]
    try:
        await asyncio.wait([ended, *waits], timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


async def _woken(driver: Driver, life: Life) -> None:
    while True:
        try:
            return await driver.wake(life.key)
        except KeeperUnreachable:  # its guard has let it go
            await asyncio.sleep(AGAIN_S)
