"""Plain processes of this machine, owned by the keeper."""

from __future__ import annotations

from typing import Protocol

from relit.drivers.base import Exit, Launch, Life


class Keeper(Protocol):
    """What this driver needs of a keeper (``relit.node.client.KeeperClient`` is one)."""

    async def start_life(self, launch: Launch) -> Life: ...

    async def lives(self) -> list[Life]: ...

    async def signal(self, key: str, number: int, whole: bool) -> bool: ...

    async def kill(self, key: str) -> None: ...

    async def ended(self, key: str) -> Exit: ...

    async def forget(self, key: str) -> None: ...


class ProcessDriver:
    """The ``Driver`` for operating-system processes. They outlive us: the keeper holds them."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def start(self, launch: Launch) -> Life:
        """Start it; the keeper refuses a second life of the same name."""
        return await self._keeper.start_life(launch)

    async def adopt(self, key: str) -> Life | None:
        """The life with that key, if the keeper has it."""
        return next((life for life in await self._keeper.lives() if life.key == key), None)

    async def lives(self) -> list[Life]:
        """All that the keeper has."""
        return await self._keeper.lives()

    async def signal(self, key: str, number: int, *, whole: bool = False) -> bool:
        """Signal main process or group; false when it has ended or was forgotten."""
        return await self._keeper.signal(key, number, whole)

    async def kill(self, key: str) -> None:
        """End the whole tree: by its cgroup where there is one, else stop and kill all that /proc shows."""
        await self._keeper.kill(key)

    async def wait(self, key: str) -> Exit:
        """How it ended, as soon as it did. A forgotten or never started key answers an unknown end."""
        return await self._keeper.ended(key)

    async def forget(self, key: str) -> None:
        """Drop the keeper's record."""
        await self._keeper.forget(key)
