"""A clone of an agent's home beside it, for as long as something is tried on it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from relit.api.volumes_port import Volumes
from relit.app.folder import run_dir
from relit.app.instances import folder_of, home_of
from relit.errors import Conflict, NotFound, RelitError, WaitTimeout
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.proc import kill_marked
from relit.lib.service import finished
from relit.settings import Settings
from relit.volumes.due import to_be_laid

Open = Callable[[], AbstractAsyncContextManager[Volumes]]
_LAID_S = 600.0
_LOOK_S = 0.1
_LONGEST = 63  # letters of an agent's name: relit.lib.names
NOTE = "clone"  # the file in a folder of agents that says that it is none
_LOG = logging.getLogger(__name__)


def mark_of(home: Path) -> str:
    """What the processes of a clone with that home are known by. Another installation has a home elsewhere."""
    return f"relit-trial-{hashlib.blake2b(os.fsencode(home), digest_size=8).hexdigest()}"


class Clone:
    """``word`` tells clones of one agent for different purposes apart: there is one of each at a time, for which a lock
    is held as long as it is worked on. One whose lock nobody has was left by somebody who was killed."""

    def __init__(self, settings: Settings, agent: str, word: str, volumes: Open) -> None:
        self.name = name_of(agent, word)
        self.home = home_of(settings, self.name)
        self._agent = agent
        self._volumes = volumes
        self._folder = folder_of(settings, self.name)
        self._lock = run_dir(settings) / f"{self.name}.lock"

    @asynccontextmanager
    async def of(self, snapshot: int) -> AsyncIterator[Path]:
        """Its home as in that snapshot, laid. Nothing of the clone stays. Conflict while another process has one; else
        raises what volumes raise."""
        with self._locked():
            await self._drop()
            self._note()
            try:
                async with self._volumes() as volumes:
                    await volumes.fork(self._agent, self.name, str(snapshot))
                await self._laid()
                yield self.home
            finally:
                await finished(self._drop())

    async def drop(self) -> None:
        """End and remove what somebody left of it who was killed. Raises what volumes raise; OSError."""
        with contextlib.suppress(Conflict), self._locked():  # somebody works on it
            await self._drop()

    async def _drop(self) -> None:
        """It was never an agent: one of that name is left alone."""
        if not (self._folder / NOTE).exists():
            return
        await asyncio.to_thread(kill_marked, mark_of(self.home))
        async with self._volumes() as volumes:
            with contextlib.suppress(NotFound):
                await volumes.remove(self.name, home=True)
        await asyncio.to_thread(_remove, self._folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"no clone of {self._agent} can be made now", why="another process is trying something on one",
                    fix="try again when that is done",
                ) from error  # fmt: skip
            yield

    def _note(self) -> None:
        """That what comes into the folder may be removed. Conflict when somebody else has the name."""
        draft = self._folder.with_name(f".{self.name}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        (draft / NOTE).touch(mode=0o600)
        try:
            draft.rename(self._folder)
        except OSError as error:
            shutil.rmtree(draft)
            raise Conflict(
                f"no clone of {self._agent} can be made", why=f"there is something else in {self._folder}",
                fix=f"mv {self._folder} elsewhere, or relit agent rm {self.name}",
            ) from error  # fmt: skip

    async def _laid(self) -> None:
        until = SYSTEM_CLOCK.monotonic() + _LAID_S
        while to_be_laid(self.home) or not await asyncio.to_thread(self.home.is_dir):
            if SYSTEM_CLOCK.monotonic() > until:
                raise WaitTimeout(f"the clone of {self._agent} was not laid in {_LAID_S:.0f} s", fix="relit volume ls")
            await asyncio.sleep(_LOOK_S)


def name_of(agent: str, word: str) -> str:
    """A clone's name: no longer than an agent's may be, and of one agent alone."""
    name = f"{agent}.{word}"
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.blake2b(agent.encode(), digest_size=6).hexdigest()
    return f"{agent[: _LONGEST - len(digest) - len(word) - 2]}-{digest}.{word}"


async def drop_left(settings: Settings, volumes: Open) -> None:
    """Remove the clones that somebody left who was killed. What cannot be removed is logged, and left."""
    for note in (settings.data / "agents").glob(f"*/{NOTE}"):
        agent, _, word = note.parent.name.rpartition(".")
        try:
            await Clone(settings, agent, word, volumes).drop()
        except (RelitError, OSError) as error:
            _LOG.warning("the clone %s is left: %s", note.parent, error)


def _remove(folder: Path) -> None:
    """All of it, the note last: without it nobody would know that the rest may go. Folders that their owner may not
    write to are made so."""
    for path, names, _ in os.walk(folder):
        for name in names:
            place = os.path.join(path, name)
            if not os.path.islink(place) and not os.access(place, os.W_OK | os.X_OK):
                os.chmod(place, 0o700)
    for each in folder.iterdir():
        if each.name != NOTE:
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    shutil.rmtree(folder)
