"""What happens to them from outside: kills, stops, a port that somebody else has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from bench.house import House
from bench.soak_agents.cast import CONFIG, REAL, SDK, Cast

Deed = Callable[[], Awaitable[None]]
TAKE_S = 3.0  # how long it is tried to get hold of a dead agent's port


class Weather:
    """``counts`` says what was done."""

    def __init__(self, house: House, cast: Cast, chance: Random) -> None:
        self._house = house
        self._cast = cast
        self._chance = chance
        self.counts: Counter[str] = Counter()
        self._deeds: dict[str, tuple[float, Deed]] = {
            "agents killed": (30, lambda: self._strike(signal.SIGKILL, self._some())),
            "agents stopped": (6, lambda: self._strike(signal.SIGSTOP, self._some())),
            "ports taken": (4, self._take_port),
            "SDK workers killed": (3, lambda: self._strike(signal.SIGKILL, SDK)),
            "servers killed": (1.5, lambda: self._strike(signal.SIGKILL, "server")),
            "turns killed": (1, lambda: self._strike(signal.SIGKILL, "turns")),
            "gateways killed": (1, lambda: self._strike(signal.SIGKILL, "gateway")),
            "nodes killed": (1, lambda: self._kill_daemon(node=True, keeper=False)),
            "keepers killed": (1, lambda: self._kill_daemon(node=False, keeper=True)),
            "nodes and keepers killed": (0.5, lambda: self._kill_daemon(node=True, keeper=True)),
        }
        for name in [name for name in REAL if name in cast.talkers]:
            self._deeds[f"{name} killed"] = (0.7, lambda name=name: self._strike(signal.SIGKILL, name))  # type: ignore[misc]
            self._deeds[f"{name} stopped"] = (0.3, lambda name=name: self._strike(signal.SIGSTOP, name))  # type: ignore[misc]
            self._deeds[f"{name} ruined"] = (0.3, lambda name=name: self._ruin(name))  # type: ignore[misc]

    async def rage(self, until: float) -> None:
        """Strike, again and again."""
        names = list(self._deeds)
        weights = [self._deeds[name][0] for name in names]
        while time.monotonic() < until:
            await asyncio.sleep(self._chance.uniform(0.2, 1.2))
            name = self._chance.choices(names, weights)[0]
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it died by itself, or is being healed
                await self._deeds[name][1]()
                self.counts[name] += 1

    def _some(self) -> str:
        return self._chance.choice(list(self._cast.modes))

    async def _strike(self, number: int, name: str) -> None:
        found = self._house.seen().get(name)
        if found is None or not found.pid:
            raise ProcessLookupError(name)
        os.kill(found.pid, number)

    async def _ruin(self, name: str) -> None:
        """Cut its configuration short, and kill it: at once, or when it has lived with it for a while."""
        file = self._house.home(name) / CONFIG[REAL[name]]
        data = await asyncio.to_thread(file.read_bytes)
        await asyncio.to_thread(file.write_bytes, data[: len(data) // 2])
        await asyncio.sleep(self._chance.choice((0, 8)))
        await self._strike(signal.SIGKILL, name)

    async def _take_port(self) -> None:
        """Kill an agent, be quicker than its next life, and keep its port for a while."""
        name = self._chance.choice([name for name, mode in self._cast.modes.items() if mode == "port-taken"])
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with door:
            await self._strike(signal.SIGKILL, name)
            if await self._bound(door, self._cast.ports[name]):
                door.listen()
                await asyncio.sleep(self._chance.uniform(1, 4))

    async def _bound(self, door: socket.socket, port: int) -> bool:
        until = time.monotonic() + TAKE_S
        while time.monotonic() < until:
            try:
                door.bind(("127.0.0.1", port))
                return True
            except OSError:
                await asyncio.sleep(0.001)
        return False

    async def _kill_daemon(self, *, node: bool, keeper: bool) -> None:
        """The node is started again as a service manager would do it; the node sees to a keeper."""
        found = self._house.daemon()
        for pid in ([found.keeper] if keeper else []) + ([found.node] if node else []):
            if pid is None:
                raise ProcessLookupError("nobody is there")
            os.kill(pid, signal.SIGKILL)
        if node:
            await self._house.node_again()

    def told(self) -> str:
        """In one line, for whoever watches."""
        return ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)
