"""What the node's tests share: a bell that real children ring, and looks into /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from relit.control.care import ConfigFile, Incident, KnownGood, Tried, Went
from relit.control.local import LocalControl
from relit.control.values import Activity, Backoff, Death, Desired, InstanceSpec, Measured, NodeInfo
from relit.drivers.process import ProcessDriver
from relit.events import Event
from relit.lib import proc
from relit.lib.ids import system_random
from relit.node.client import KeeperClient
from relit.node.node import Node

ENV = {"PATH": os.environ["PATH"]}


class Bell:
    """A pipe with a name: a child rings with ``echo word > path``, the test waits for the word."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o600)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self._words: asyncio.Queue[str] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._fd, 65536)).split(b"\n")
        for line in lines:
            self._words.put_nowait(line.decode())

    async def next(self, timeout: float = 15.0) -> str:
        async with asyncio.timeout(timeout):
            return await self._words.get()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


def rings(bell: Bell, then: str = "exec sleep 1000") -> list[str]:
    """A command that rings with its pid and then does something."""
    return ["sh", "-c", f"echo $$ > {bell.path}; {then}"]


async def gone(pid: int, timeout: float = 15.0) -> None:
    """Wait for the end of any process, by a pidfd."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def living(pid: int) -> bool:
    return proc.start_time(pid) is not None


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_kb(pid: int, what: str = "VmRSS") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1])
    raise AssertionError(what)


def pss_kb(pid: int) -> int:
    with contextlib.suppress(PermissionError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


class Server:
    """A control backend that writes down what it was told, and lets tests wait for it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.deaths: list[Death] = []
        self.incidents: list[Incident] = []
        self.asked: list[tuple[str | int, ...]] = []
        self.good = KnownGood()
        self.thought_broken: list[bool] = []  # of a configuration, whenever what is good was asked for
        self.broken: dict[int, str] = {}  # snapshots on which a clone does not come up, and why
        self.nodes: list[NodeInfo] = []
        self.wish = Desired(version=1)
        self.activity_now = Activity()
        self.footprints_now: dict[str, Measured] = {}
        self._news = asyncio.Condition()

    async def hello(self, node: NodeInfo) -> None:
        self.nodes.append(node)
        await self._tell()

    async def report(self, events: Sequence[Event]) -> None:
        self.events.extend(events)
        await self._tell()

    async def desired(self, version: int, wait_s: float) -> Desired:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), self._news:
                await self._news.wait_for(lambda: self.wish.version != version)
        return self.wish

    async def worker_died(self, death: Death) -> None:
        self.deaths.append(death)
        await self._tell()

    async def incident(self, incident: Incident) -> None:
        self.incidents.append(incident)
        await self._tell()

    async def known_good(
        self, agent: str, files: Sequence[ConfigFile] = (), *, broken: bool = False, before: Sequence[str] = ()
    ) -> KnownGood:
        self.asked.append(("known_good", agent, *(each.path for each in files)))
        self.thought_broken.append(broken)
        return self.good

    async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
        self.asked.append(("go_back", agent, number, *files))
        return Went(to=number, before=9, written=len(files))

    async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
        self.asked.append(("try_home", agent, number))
        return Tried(why=self.broken.get(number, ""))

    async def mark_good(self, agent: str) -> int:
        self.asked.append(("mark_good", agent))
        return self.good.number

    async def activity(self) -> Activity:
        return self.activity_now

    async def footprints(self, learnt: Sequence[Measured]) -> list[Measured]:
        for each in learnt:
            known = self.footprints_now.get(each.of)
            if known is None or each.seen >= known.seen:
                self.footprints_now[each.of] = each
        return list(self.footprints_now.values())

    async def want(self, specs: list[InstanceSpec]) -> None:
        self.wish = Desired(version=self.wish.version + 1, instances=specs)
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, condition: Callable[[], Any], timeout: float = 20.0) -> None:
        async with asyncio.timeout(timeout), self._news:
            await self._news.wait_for(lambda: bool(condition()))

    def named(self, name: str, instance: str | None = None) -> list[dict[str, Any]]:
        return [
            event.data for event in self.events if event.name == name and instance in (None, event.data["instance"])
        ]

    async def saw(self, name: str, times: int = 1, instance: str | None = None) -> dict[str, Any]:
        await self.until(lambda: len(self.named(name, instance)) >= times)
        return self.named(name, instance)[-1]


QUICK = Backoff(first_ms=1, most_ms=1)


def spec(name: str, argv: list[str], **fields: object) -> InstanceSpec:
    return InstanceSpec(name=name, argv=argv, **({"env": ENV, "backoff": QUICK} | fields))  # type: ignore[arg-type]


def sh(name: str, script: str, **fields: object) -> InstanceSpec:
    return spec(name, ["sh", "-c", script], **fields)


@asynccontextmanager
async def running(
    keeper: KeeperClient,
    run_dir: Path,
    server: Server,
    specs: Sequence[InstanceSpec],
    *,
    leave: bool = False,
    **options: Any,
) -> AsyncIterator[Node]:
    node = Node(LocalControl(server), ProcessDriver(keeper), specs, run_dir=run_dir, chance=system_random(), **options)
    await node.start()
    try:
        yield node
    finally:
        await (node.detach() if leave else node.stop())
