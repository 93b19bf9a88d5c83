"""A clone of an agent's home beside it, for as long as something is tried on it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from relit.api.volumes_port import Volumes
from relit.app.instances import folder_of, home_of
from relit.errors import Conflict, NotFound, WaitTimeout
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.proc import kill_marked
from relit.lib.service import finished
from relit.settings import Settings
from relit.volumes.due import to_be_laid

Open = Callable[[], AbstractAsyncContextManager[Volumes]]
_LAID_S = 600.0
_LOOK_S = 0.1
_NAME = 50  # of its agent's letters
_NOTE = "clone"


def mark_of(home: Path) -> str:
    """What the processes of a clone with that home are known by. Another installation has a home elsewhere."""
    return f"relit-trial-{hashlib.blake2b(os.fsencode(home), digest_size=8).hexdigest()}"


class Clone:
    """``word`` tells clones of one agent for different purposes apart: there is one of each at a time."""

    def __init__(self, settings: Settings, agent: str, word: str, volumes: Open) -> None:
        self.name = f"{agent[:_NAME]}.{word}"
        self.home = home_of(settings, self.name)
        self._agent = agent
        self._volumes = volumes
        self._folder = folder_of(settings, self.name)

    @asynccontextmanager
    async def of(self, snapshot: int) -> AsyncIterator[Path]:
        """Its home as in that snapshot, laid. Nothing of the clone stays. Raises what volumes raise."""
        await self.drop()
        self._note()
        try:
            async with self._volumes() as volumes:
                await volumes.fork(self._agent, self.name, str(snapshot))
            await self._laid()
            yield self.home
        finally:
            await finished(self.drop())

    async def drop(self) -> None:
        """End and remove what there is of it. It was never an agent: one of that name is left alone."""
        if not (self._folder / _NOTE).exists():
            return
        await asyncio.to_thread(kill_marked, mark_of(self.home))
        async with self._volumes() as volumes:
            with contextlib.suppress(NotFound):
                await volumes.remove(self.name, home=True)
        await asyncio.to_thread(shutil.rmtree, self._folder)

    def _note(self) -> None:
        """That what comes into the folder may be removed. Conflict when somebody else has the name."""
        try:
            self._folder.mkdir(mode=0o700)
        except FileExistsError as error:
            raise Conflict(
                f"no clone of {self._agent} can be made", why=f"there is an agent {self.name}",
                fix=f"relit agent rm {self.name}",
            ) from error  # fmt: skip
        (self._folder / _NOTE).touch(mode=0o600)

    async def _laid(self) -> None:
        until = SYSTEM_CLOCK.monotonic() + _LAID_S
        while to_be_laid(self.home) or not await asyncio.to_thread(self.home.is_dir):
            if SYSTEM_CLOCK.monotonic() > until:
                raise WaitTimeout(f"the clone of {self._agent} was not laid in {_LAID_S:.0f} s", fix="relit volume ls")
            await asyncio.sleep(_LOOK_S)


async def drop_left(settings: Settings, word: str, volumes: Open) -> None:
    """Remove the clones for that purpose that somebody left who was killed."""
    for note in (settings.data / "agents").glob(f"*.{word}/{_NOTE}"):
        await Clone(settings, note.parent.name.removesuffix(f".{word}"), word, volumes).drop()
