"""A home's files laid down whole: of a fork, of a home that is gone or is to be replaced, of a lost server's agent."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from relit.errors import NotFound, VolumeDamaged, VolumeError
from relit.lib.crashpoints import point
from relit.lib.service import Tasks
from relit.lib.spread import spread
from relit.lib.superjournals import JOURNAL, relocate
from relit.manifest import Entry, Segment, Volume
from relit.volumes import due, moved
from relit.volumes.base import Catalog
from relit.volumes.disk import remove_tree
from relit.volumes.due import Due
from relit.volumes.mount import Mount
from relit.volumes.restore import Restored, Restorer
from relit.volumes.syncing import settle

log = logging.getLogger("relit.volumes")
POINTS: tuple[str, ...] = (
    "volumes.home.noted",
    "volumes.home.laid",
    "volumes.home.moved",
    "volumes.home.settled",
)


class Laid(msgspec.Struct, frozen=True):
    """A tree that is in its place."""

    entries: list[Entry]
    segments: list[Segment]
    done: Restored


class HomeLaying:
    """``homes``: all of this node's. ``sync`` waits for the disk, then removes the record; it does so in ``tasks``."""

    def __init__(
        self,
        catalog: Catalog,
        restorer: Callable[[Path], Restorer],
        homes: Callable[[], Iterable[Path]],
        sync: Callable[[str], None],
        tasks: Tasks,
    ) -> None:
        self._catalog = catalog
        self._restorer = restorer
        self._homes = homes
        self._sync = sync
        self._tasks = tasks
        self._syncs: dict[str, asyncio.Task[None]] = {}

    async def note(self, mount: Mount, wanted: Due | None) -> None:
        """From now on no agent starts on that home until it is laid, whatever happens. ``None``: nothing is to be
        laid after all."""
        if wanted is None:
            await asyncio.to_thread(due.drop, mount.home)
        else:
            await asyncio.to_thread(due.note, mount.home, wanted)
            point("volumes.home.noted")

    async def noted(self, mount: Mount) -> Due | None:
        """What was noted, as far as it can be read."""
        try:
            return await asyncio.to_thread(due.noted, mount.home)
        except VolumeDamaged:
            return None

    async def verdict(self, mount: Mount) -> due.Verdict:
        """What is to be done at a start. Takes away what a killed process had laid beside the home."""
        found = await asyncio.to_thread(due.decide, mount.home)
        await asyncio.to_thread(remove_tree, _draft(mount.home))
        await asyncio.to_thread(moved.tidy, mount.home)
        return found

    async def lay(self, mount: Mount) -> Laid | None:
        """Lay down what was noted, beside where it belongs, then put it there in one step. What is there goes to
        ``rejected``: it is from before the machine died, or nobody knows from where. ``None``: the volume whose files
        were to come never was; an agent of relit.toml gets an empty home."""
        wanted = await asyncio.to_thread(due.noted, mount.home)
        volume = await self.volume(mount.agent)
        if wanted is None or volume is None or volume.id != wanted.volume:
            if mount.declared:
                await asyncio.to_thread(mount.home.mkdir, mode=0o700, parents=True, exist_ok=True)
            await self.note(mount, None)
            return None
        number = due.wanted(wanted, volume.newest)
        draft = await asyncio.to_thread(self._cleared, mount)
        ino = draft.stat().st_ino
        await self.note(mount, Due(volume=volume.id, number=number, newest=volume.newest, ino=ino))
        entries, segments = await self.tree(volume.id, number)
        done = await self._restorer(mount.work).fresh(draft, entries, segments=segments)
        await self._settle_journals(mount, entries, draft)
        point("volumes.home.laid")
        await asyncio.to_thread(_put, draft, mount.home)
        point("volumes.home.moved")
        return Laid(entries, segments, done)

    def _cleared(self, mount: Mount) -> Path:
        """The empty folder that becomes the home."""
        if due.holds_something(mount.home):
            log.warning("%s: its home was not laid down whole; what was there is put aside", mount.agent)
            self._restorer(mount.work).reject(mount.home)
        draft = _draft(mount.home)
        remove_tree(draft)
        with spread(draft.parent):
            draft.mkdir(mode=0o700)
        return draft

    async def exchange(self, mount: Mount, volume: str, number: int) -> Laid:
        """Lay the whole tree beside the home, then exchange both in one step. A crash of whatever kind is finished or
        undone by ``Restorer.resume``."""
        await self.settle(mount)
        entries, segments = await self.tree(volume, number)
        done = await self._restorer(mount.work).full(
            mount.home,
            entries,
            segments=segments,
            note=str(number),
            prepare=lambda sibling: self._settle_journals(mount, entries, sibling),
        )
        return Laid(entries, segments, done)

    async def lay_at(self, volume: Volume, number: int, target: Path) -> Restored:
        """Any tree, into an empty folder outside of homes. NotFound."""
        await self._catalog.snapshot(volume.id, number)
        entries, segments = await self.tree(volume.id, number)
        return await self._restorer(target).fresh(target, entries, segments=segments)

    def sync(self, mount: Mount) -> None:
        """Wait for the disk; the agent does not."""
        self._syncs[mount.agent] = self._tasks.spawn(self._settle(mount), f"sync-{mount.agent}")

    async def _settle(self, mount: Mount) -> None:
        try:
            await asyncio.to_thread(self._sync, os.fspath(mount.home))
            point("volumes.home.settled")
        except OSError as error:  # its record stays: when the machine dies now, it is laid anew
            log.error("the files of %s were not brought to the disk: %s", mount.agent, error)

    async def settle(self, mount: Mount) -> None:
        """Return when the disk has that home, if it did not yet: another journal is begun on it."""
        await asyncio.to_thread(settle, os.fspath(mount.home))

    async def settled(self) -> None:
        """Return when the disk has all that was laid."""
        await asyncio.gather(*self._syncs.values(), return_exceptions=True)

    async def tree(self, volume: str, number: int) -> tuple[list[Entry], list[Segment]]:
        """Everything of a snapshot."""
        return await self._catalog.tree(volume, number), await self._catalog.all_segments(volume, number)

    async def volume(self, agent: str) -> Volume | None:
        """The agent's, if it has one."""
        try:
            return await self._catalog.volume(agent)
        except NotFound:
            return None

    async def _settle_journals(self, mount: Mount, entries: Iterable[Entry], draft: Path) -> None:
        """Databases that were in a transaction together are told that they lie in this home."""
        journals = [each.path for each in entries if each.kind == "file" and each.path.endswith(JOURNAL)]
        homes = {_real(home) for home in self._homes()}
        try:
            await asyncio.to_thread(relocate, os.fsencode(draft), journals, _real(mount.home), homes)
        except OSError as error:
            raise VolumeError(f"the journals of {mount.agent}'s databases were not settled", why=str(error)) from error


def _draft(home: Path) -> Path:
    """Where its files are laid before they are put in place."""
    return home.with_name(f".{home.name}.laying")


def _put(draft: Path, home: Path) -> None:
    """In place of nothing, or of an empty folder."""
    try:
        os.rename(draft, home)
    except OSError as error:
        raise VolumeError(
            f"{home} was not put in its place", why=error.strerror or str(error), fix=f"ls -la {home.parent}"
        ) from error


def _real(home: Path) -> bytes:
    """Its path as SQLite writes it down."""
    return os.fsencode(home.resolve())
