"""The node, with everything that it keeps alive."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from functools import partial

from relit.app import folder
from relit.app.folder import run_dir
from relit.app.holding import hold_homeless
from relit.app.specs import SERVER, TURNS, asked, specs
from relit.app.stopping import SIGNALS, running, until_signal
from relit.control.unix import UnixControl
from relit.control.values import InstanceSpec, Probe
from relit.drivers.process import ProcessDriver
from relit.errors import ConfigError, RelitError
from relit.lib import durations, memlock
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.ids import system_random
from relit.lib.service import Tasks
from relit.node.client import ensure_keeper
from relit.node.logs import Logs
from relit.node.node import Node
from relit.settings import Environment, Settings

AGAIN_S = 60.0  # until it is looked again at what was at fault
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
    await asked(lambda: settings)
    make = partial(specs, environment=environment, modules=modules)
    wanted = await asyncio.to_thread(make, settings)
    for each in wanted:
        if each.fault:
            log.error("%s is not started, all others are: %s", each.name, each.fault)
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
            speaker=SERVER,
            reserve=durations.to_bytes(settings.file.node.reserve),
            most=None if settings.file.node.memory is None else durations.to_bytes(settings.file.node.memory),
        )
        reload = Reload(node, again or (lambda: settings), make, settings, wanted)
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
    """Applies new settings to a node at SIGHUP, one after the other. ``make``: what the node keeps with them."""

    def __init__(
        self,
        node: Node,
        read: Callable[[], Settings],
        make: Callable[[Settings], list[InstanceSpec]],
        settings: Settings,
        wanted: list[InstanceSpec],
        again_s: float = AGAIN_S,
    ) -> None:
        self._node = node
        self._read = read
        self._make = make
        self._settings = settings
        self._wanted = wanted
        self._again_s = again_s
        self._read_at = 0.0
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
            try:
                async with asyncio.timeout(self._again_s if any(each.fault for each in self._wanted) else None):
                    await self._asked.wait()
            except TimeoutError:
                await self._look_again()
                continue
            self._asked.clear()
            await self._take_up(SYSTEM_CLOCK.monotonic())

    async def _take_up(self, began: float) -> None:
        try:
            settings = await asked(self._read)
            wanted = await asyncio.to_thread(self._make, settings)
            refuse(wanted, self._wanted)
        except Exception as error:  # noqa: BLE001 - whatever it is: it is told, and the next signal is heard
            why = str(error) if isinstance(error, OSError) else repr(error)
            why = f"{error.what}: {error.why}" if isinstance(error, RelitError) else why
            log.error("the settings stay as they were: %s", why)
            self._node.refused(why, read_at=began)
            return
        self._settings, self._wanted, self._read_at = settings, wanted, began
        await self._node.take(wanted, read_at=began)

    async def _look_again(self) -> None:
        """Whether what was at fault can be started by now, with the same settings."""
        try:
            found = {each.name: each for each in await asyncio.to_thread(self._make, self._settings)}
        except Exception as error:  # noqa: BLE001 - likewise: it is looked again later
            log.error("what is at fault was not looked at again: %r", error)
            return
        if all(found.get(each.name, each).fault for each in self._wanted if each.fault):
            return
        self._wanted = [
            found.get(each.name, each) if each.fault or each.name == TURNS else each for each in self._wanted
        ]
        await self._node.take(self._wanted, read_at=self._read_at)


def refuse(wanted: Sequence[InstanceSpec], before: Sequence[InstanceSpec]) -> None:
    """ConfigError when something cannot be started that was well ``before``, or is new."""
    known = {each.name for each in before if each.fault}
    for each in wanted:
        if each.fault and each.name not in known:
            raise ConfigError(f"{each.name} cannot be started with them", why=each.fault, fix="relit config check")
