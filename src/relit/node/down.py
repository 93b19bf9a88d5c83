"""Ending everything of a data folder: the node in good order, what it left behind, the keeper."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec

from relit.drivers.base import Driver, Life
from relit.drivers.process import ProcessDriver
from relit.errors import KeeperUnreachable
from relit.lib import proc
from relit.node import record
from relit.node.client import ensure_keeper

GRACE_S = 10.0
LEAST_S = 60.0  # that a node has to end, whatever its instances may take


class Ended(msgspec.Struct, frozen=True):
    """Whether a node was ended, and the names of instances that were still running without one."""

    node: bool
    instances: list[str]


async def down(run_dir: Path, *, timeout_s: float | None = None) -> Ended:
    """SIGTERM the node and wait for it, then end what still lives, then the keeper. Safe when nothing runs.

    A node that does not end in ``timeout_s`` is killed: its instances are then ended from here. ``None``: as long as
    its instances may take, which some need to finish what they are doing.
    """
    if not os.access(run_dir, os.F_OK):
        return Ended(False, [])
    known = record.read(run_dir)
    node = False
    if known is not None and known.running:
        usual_s = max(LEAST_S, known.stop_ms / 1000 + GRACE_S)
        node = await _end_node(known.process, usual_s if timeout_s is None else timeout_s)
    keeper = await ensure_keeper(run_dir)  # also when none runs: it finds children whose keeper was killed
    try:
        driver = ProcessDriver(keeper)
        living = [life for life in await driver.lives() if life.exit is None]
        await asyncio.gather(*(_end_life(driver, life) for life in living))
        await keeper.shutdown()
    finally:
        await keeper.stop()
    return Ended(node, [life.name for life in living])


async def leave(run_dir: Path, *, timeout_s: float | None = None) -> bool:
    """End the node alone, with SIGUSR2: what it keeps alive lives on. False: none runs."""
    known = record.read(run_dir)
    if known is None or not known.running:
        return False
    return await _end_node(known.process, LEAST_S if timeout_s is None else timeout_s, signal.SIGUSR2)


async def _end_node(node: proc.ProcessId, timeout_s: float, by: signal.Signals = signal.SIGTERM) -> bool:
    if node == proc.myself():
        return False  # a node of our own is stopped by its owner
    try:
        pidfd = os.pidfd_open(node.pid)
    except ProcessLookupError:
        return False
    try:
        if proc.identify(node.pid) != node:
            return False  # the number is somebody else's by now
        signal.pidfd_send_signal(pidfd, by)
        if not await _readable(pidfd, timeout_s):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await _readable(pidfd, timeout_s)
    except ProcessLookupError:
        pass  # it ended meanwhile, which is what was wanted
    finally:
        os.close(pidfd)
    return True


async def _readable(pidfd: int, timeout_s: float) -> bool:
    """Whether the process ended in time."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True


async def _end_life(driver: Driver, life: Life) -> None:
    try:
        async with asyncio.timeout(GRACE_S):
            await driver.signal(life.key, signal.SIGTERM)
            await driver.signal(life.key, signal.SIGCONT)
            await driver.wait(life.key)
    except (TimeoutError, KeeperUnreachable):
        await driver.kill(life.key)
        await driver.wait(life.key)
