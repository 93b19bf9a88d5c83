"""The node, with everything that it keeps alive."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence

from relit.app import folder
from relit.app.folder import run_dir
from relit.app.holding import hold_homeless
from relit.app.specs import asked
from relit.app.stopping import SIGNALS, running, until_signal
from relit.control.unix import UnixControl
from relit.control.values import InstanceSpec, Probe
from relit.drivers.process import ProcessDriver
from relit.errors import RelitError
from relit.lib import durations, memlock
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.ids import system_random
from relit.lib.service import Tasks
from relit.node.client import ensure_keeper
from relit.node.logs import Logs
from relit.node.node import Node
from relit.settings import Environment, Settings

log = logging.getLogger("relit.node")


async def up(
    settings: Settings,
    environment: Environment,
    modules: Sequence[str] = (),
    again: Callable[[], Settings] | None = None,
) -> None:
    """Be the node until a signal comes; then stop everything. SIGUSR2, or a fault of the node: end it alone, and leave
    everything to the next one. SIGHUP: ask ``again`` for the settings, and do what is
    new in them; when they are wrong all stays as it is."""
    folder.check_clock(SYSTEM_CLOCK)
    folder.prepare(settings.data)
    place = run_dir(settings)
    place.mkdir(mode=0o700, exist_ok=True)
    hold_homeless(settings)
    wanted = await asked(lambda: settings, environment, modules)
    keeper = await ensure_keeper(place)
    try:
        node = Node(
            UnixControl(place / "control.sock"),
            ProcessDriver(keeper),
            wanted,
            run_dir=place,
            chance=system_random(),
            logs=Logs(SYSTEM_CLOCK),
            ping=ping_of(settings),
            reserve=durations.to_bytes(settings.file.node.reserve),
            most=None if settings.file.node.memory is None else durations.to_bytes(settings.file.node.memory),
        )
        reload = Reload(node, lambda: asked(again or (lambda: settings), environment, modules))
        async with until_signal((*SIGNALS, signal.SIGUSR2)) as stop, running([node, reload]):
            memlock.lock()  # it has to act when memory is short
            watching = Tasks(stop.fail)
            watching.spawn(node.wait(), "relit-node-faults")
            leaves = True
            try:
                await stop.wait()
                leaves = stop.signal == signal.SIGUSR2
            finally:
                await watching.stop()
                if leaves:
                    await node.detach()
        if not leaves:
            await keeper.shutdown()
    finally:
        await keeper.stop()


def ping_of(settings: Settings) -> Probe | None:
    """The dead man's switch, if there is one."""
    wanted = settings.file.node
    if wanted.ping is None:
        return None
    return Probe(kind="http", target=wanted.ping, every_ms=durations.to_ms(wanted.ping_every), timeout_ms=10_000)


class Reload:
    """Applies new settings to a node at SIGHUP, one after the other."""

    def __init__(self, node: Node, wanted: Callable[[], Awaitable[list[InstanceSpec]]]) -> None:
        self._node = node
        self._wanted = wanted
        self._asked = asyncio.Event()
        self._tasks = Tasks(lambda error: log.error("the settings were not read again: %r", error))

    async def start(self) -> None:
        """Listen for the signal."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)
        self._tasks.spawn(self._run(), "relit-reload")

    async def stop(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        await self._tasks.stop()

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            began = SYSTEM_CLOCK.monotonic()
            try:
                wanted = await self._wanted()
            except (RelitError, OSError) as error:
                log.error("the settings stay as they were: %s", error)
                continue
            await self._node.take(wanted, read_at=began)
