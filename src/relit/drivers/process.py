"""Plain processes of this machine, owned by the keeper; in a sandbox where the launch has one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from relit.drivers import tenant
from relit.drivers.base import Exit, Launch, Life
from relit.drivers.boxed import boxed
from relit.drivers.machine import Found, look
from relit.drivers.sandbox import gated
from relit.drivers.tenant import Tenant
from relit.lib import proc

_BOXED = "boxed:"  # before the tag of lives in boxes, for whoever adopts them
_LOOK_S = 0.002  # between looks for a program behind bubblewrap: it takes some 4 ms
_GATE = 3  # the descriptor at which a box that is made waits
_SETUP_S = 5.0  # after which a bubblewrap that has no program is taken as it is


class Keeper(Protocol):
    """What this driver needs of a keeper (``relit.node.client.KeeperClient`` is one)."""

    async def start_life(self, launch: Launch) -> Life: ...

    async def stand_by(self, launch: Launch, after: str, unless: Sequence[int], gate: int | None) -> None: ...

    async def lives(self) -> list[Life]: ...

    async def life(self, key: str) -> Life | None: ...

    async def signal(self, key: str, number: int, whole: bool) -> bool: ...

    async def kill(self, key: str) -> None: ...

    async def park(self, name: str) -> list[int]: ...

    async def wake(self, name: str) -> None: ...

    async def ended(self, key: str) -> Exit: ...

    async def forget(self, key: str) -> None: ...


class ProcessDriver:
    """The ``Driver`` for operating-system processes. They outlive us: the keeper holds them.

    The keeper's child for a life in a box is bubblewrap. Callers see its program instead: pid, signals and end.
    """

    def __init__(self, keeper: Keeper, look: Callable[[], Found] = look) -> None:
        self._keeper = keeper
        self._look = look
        self._found = Found()
        self._standing: dict[str, Launch] = {}  # in boxes that are made: their paths were looked at

    async def start(self, launch: Launch) -> Life:
        """Start it; the keeper refuses a second life of the same name. Returns when its program is in its box."""
        ready = self._standing.pop(launch.key, None) or await self._ready(launch)
        life = await self._keeper.start_life(ready)
        return _seen(life, await _arrived(life)) if _is_boxed(life) else life

    async def stand_by(self, launch: Launch, *, after: str, unless: Sequence[int] = ()) -> None:
        """Its box is made now, and waits."""
        ready = await self._ready(launch)
        if launch.box is not None:
            self._standing = {key: each for key, each in self._standing.items() if each.name != launch.name}
            self._standing[launch.key] = ready
            ready = msgspec.structs.replace(ready, argv=gated(ready.argv, self._found, _GATE))
        await self._keeper.stand_by(ready, after, unless, None if launch.box is None else _GATE)

    async def _ready(self, launch: Launch) -> Launch:
        """What the keeper starts."""
        if launch.box is None and launch.limits is None:
            return launch
        tag = launch.tag if launch.box is None else _BOXED + launch.tag
        return msgspec.structs.replace(boxed(launch, await self._machine()), tag=tag)

    async def _machine(self) -> Found:
        if not self._found.works:  # else it was installed meanwhile, or will be
            self._found = await asyncio.to_thread(self._look)
        return self._found

    async def adopt(self, key: str) -> Life | None:
        """The life with that key, if the keeper has it."""
        life = await self._life(key)
        return None if life is None else _shown(life)

    async def _life(self, key: str) -> Life | None:
        return next((life for life in await self._keeper.lives() if life.key == key), None)

    async def lives(self) -> list[Life]:
        """All that the keeper has."""
        return [_shown(life) for life in await self._keeper.lives()]

    async def signal(self, key: str, number: int, *, whole: bool = False) -> bool:
        """Signal main process or group; false when it has ended or was forgotten."""
        life = await self._keeper.life(key)
        if life is None or life.exit is not None or not _is_boxed(life):
            return await self._keeper.signal(key, number, whole)
        if number and not await self._keeper.signal(key, signal.SIGCONT, False):  # it thaws what is frozen
            return False
        who = await _arrived(life)
        if who is None:
            return await self._keeper.signal(key, number, whole)
        if not whole:
            return tenant.send(who, number)
        sent = [tenant.send(each, number) for each in tenant.group(life.pid)]
        return any(sent)

    async def kill(self, key: str) -> None:
        """End the whole tree: by its cgroup where there is one, else stop and kill all that /proc shows."""
        self._standing.pop(key, None)
        await self._keeper.kill(key)

    async def park(self, key: str) -> list[int]:
        """By its cgroup, or by signals: the keeper does it, and so long as it lives nobody else ends it."""
        life = await self._keeper.life(key)
        return [] if life is None or life.exit is not None else await self._keeper.park(life.name)

    async def wake(self, key: str) -> None:
        """What ``park`` had stopped goes on."""
        life = await self._keeper.life(key)
        if life is not None:
            await self._keeper.wake(life.name)

    async def wait(self, key: str) -> Exit:
        """How it ended, as soon as it did. A forgotten or never started key answers an unknown end."""
        life = await self._keeper.life(key)
        end = await self._keeper.ended(key)
        return tenant.told(end) if life is not None and _is_boxed(life) else end

    async def forget(self, key: str) -> None:
        """Drop the keeper's record."""
        await self._keeper.forget(key)


def _is_boxed(life: Life) -> bool:
    return life.tag.startswith(_BOXED)


def _shown(life: Life) -> Life:
    """A life as callers see it."""
    if not _is_boxed(life):
        return life
    return _seen(life, tenant.find(life.pid) if life.exit is None else None)


def _seen(life: Life, who: Tenant | None) -> Life:
    """Its program in bubblewrap's place; bubblewrap itself where there is no program (any more)."""
    return msgspec.structs.replace(
        life,
        tag=life.tag.removeprefix(_BOXED),
        pid=life.pid if who is None else who.pid,
        start=life.start if who is None else who.start,
        exit=None if life.exit is None else tenant.told(life.exit),
    )


async def _arrived(life: Life) -> Tenant | None:
    """Wait for the program. ``None``: it ended, or bubblewrap hangs."""
    try:
        async with asyncio.timeout(_SETUP_S):
            while True:
                who = tenant.find(life.pid)
                if who is not None or proc.start_time(life.pid) != life.start:
                    return who
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        return None
