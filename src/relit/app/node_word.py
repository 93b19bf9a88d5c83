"""What commands say to the node that runs here, and how they see that it was done."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from relit.control.values import InstanceStatus
from relit.errors import ConfigError, WaitTimeout
from relit.lib import proc
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.node import record, status
from relit.node.status import Running

_LOOK_S = 0.05
_LISTENS_S = 10.0  # a node that has only just begun listens soon
SERVER = "server"


async def running(run_dir: Path) -> Running:
    """Who runs now; nothing where nothing ever ran."""
    return await asyncio.to_thread(status.read, run_dir)


def of(found: Running, name: str) -> InstanceStatus | None:
    """One instance."""
    return next((each for each in found.instances if each.name == name), None)


async def reread(run_dir: Path) -> bool:
    """Let the node that runs read the settings again. False: none runs. WaitTimeout when it does not listen."""
    known = await asyncio.to_thread(record.read, run_dir)
    if known is None or not record.alive(known):
        return False
    end = SYSTEM_CLOCK.monotonic() + _LISTENS_S
    while not _listens(known.process.pid):  # to a process that does not the signal is its end
        if not record.alive(known):
            return False
        if SYSTEM_CLOCK.monotonic() > end:
            raise WaitTimeout(
                f"the node (pid {known.process.pid}) was not told of the new settings",
                why="it does not read them again while it runs",
                fix="relit down; relit up",
            )
        await asyncio.sleep(_LOOK_S)
    return _send(known.process)


def _listens(pid: int) -> bool:
    try:
        return heeds(Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return False


def heeds(status: str) -> bool:
    """Whether a process with that ``/proc/PID/status`` handles SIGHUP, and is not killed already: what waits for a disk
    dies a while after that."""
    masks = {name: value for name, _, value in (line.partition(":") for line in status.splitlines())}

    def has(name: str, number: int) -> bool:
        return bool(int(masks.get(name, "0"), 16) >> (number - 1) & 1)

    killed = has("SigPnd", signal.SIGKILL) or has("ShdPnd", signal.SIGKILL)
    return has("SigCgt", signal.SIGHUP) and not killed


def _send(who: proc.ProcessId) -> bool:
    try:
        pidfd = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return False
    try:
        if proc.identify(who.pid) != who:
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGHUP)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


async def until(
    run_dir: Path, what: Callable[[Running], bool], timeout_s: float, late: Callable[[Running], WaitTimeout],
    clock: Clock = SYSTEM_CLOCK,
) -> Running:  # fmt: skip
    """What runs, as soon as ``what`` holds. Raises what ``late`` makes."""
    end = clock.monotonic() + timeout_s
    while True:
        found = await running(run_dir)
        if what(found):
            return found
        if clock.monotonic() > end:
            raise late(found)
        await asyncio.sleep(_LOOK_S)


async def applied(run_dir: Path, since: float, what: Callable[[Running], bool], timeout_s: float) -> Running:
    """The node has read the settings again: ``what`` holds, and relit's own server runs with them. ``since``: when they
    were written, by the monotonic clock. ConfigError: it did not take them; WaitTimeout."""

    def done(now: Running) -> bool:
        server = of(now, SERVER)
        again = _taken(now, since) and server is not None and server.state == "ready"
        return now.node is None or (again and what(now))

    return await until(run_dir, done, timeout_s, lambda _: _unread(run_dir))


async def handed_over(run_dir: Path, timeout_s: float) -> bool:
    """Let the node that runs read the settings again, and wait until relit's own processes have left for them. False:
    none runs. ConfigError: it did not take them; WaitTimeout."""
    since = SYSTEM_CLOCK.monotonic()
    if not await reread(run_dir):
        return False
    await until(
        run_dir, lambda now: now.node is None or _taken(now, since), timeout_s, lambda _: _unread(run_dir)
    )  # fmt: skip
    return True


def _taken(now: Running, since: float) -> bool:
    if now.refused_at >= since:
        raise ConfigError(
            "the node that runs did not take up the new settings: it goes on with those of before", why=now.refused,
            fix="relit config check",
        )  # fmt: skip
    return now.read_at >= since


def _unread(run_dir: Path) -> WaitTimeout:
    return WaitTimeout(
        "the node that runs did not take up the new settings",
        why="it is busy, or it reads another configuration",
        fix=f"relit config check; tail {run_dir.parent / 'node.log'}",
    )
