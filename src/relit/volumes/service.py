"""All homes of one node: snapshots when they are due, restores, forks. One of it per node, behind a lock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from relit.errors import Conflict, NotFound, RelitError, StoreFull, VolumeError
from relit.events import Event
from relit.lib.clock import Clock
from relit.lib.crashpoints import point
from relit.lib.durations import size
from relit.lib.service import OnFailure, Tasks, finished
from relit.lib.superjournals import JOURNAL, relocate
from relit.manifest import Entry, Position, Reason, Segment, Snapshot, Volume
from relit.volumes.arenas import Arenas
from relit.volumes.base import Catalog, Freezer, Holder, Watcher
from relit.volumes.between import Trees, between
from relit.volumes.capture import Capture, Limits, Spooling
from relit.volumes.disk import remove_tree
from relit.volumes.laid import laid
from relit.volumes.plan import contents, plan
from relit.volumes.restore import Restored, Restorer

Meanwhile = Callable[[], Awaitable[None]]
POINTS: tuple[str, ...] = (
    "volumes.fork.held",
    "volumes.fork.made",
    "volumes.fork.laid",
    "volumes.fork.moved",
    "volumes.back.held",
    "volumes.back.saved",
    "volumes.back.restored",
    "volumes.back.taken",
    "volumes.back.released",
)
_LOOK_S = 5.0  # between looks for homes that are new
log = logging.getLogger("relit.volumes")


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's home and how it is kept. ``work``: where journals of restores and replaced files lie."""

    agent: str
    home: Path
    work: Path
    freezer: Freezer
    holder: Holder
    patterns: tuple[str, ...] = ()
    limits: Limits = Limits()
    every_ms: int = 60_000


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the service is made of. ``waiting``: bytes in the spool; with ``most_waiting`` there snapshots pause."""

    catalog: Catalog
    spool: Spooling
    restorer: Callable[[Path], Restorer]
    watcher: Watcher
    id_of: Callable[[memoryview], bytes]
    clock: Clock
    new_id: Callable[[], str]
    report: Callable[[Sequence[Event]], Awaitable[None]]
    waiting: Callable[[], int] = lambda: 0
    most_waiting: int = 2**63
    node: str = "local"


class Going(msgspec.Struct, frozen=True, kw_only=True):
    """A way back: what would be done, or was. ``before``: the snapshot that undoes it; ``after``: the one of it."""

    to: Snapshot
    before: Snapshot
    after: Snapshot | None
    written: list[Entry]
    removed: list[bytes]
    adjusted: list[Entry]
    done: Restored | None = None


class Homes:
    """``mounts`` answers the agents by name; it is asked again now and then. ``start`` finishes what a crash cut
    short, then takes snapshots on its own."""

    def __init__(
        self,
        mounts: Callable[[], Mapping[str, Mount]],
        make_mount: Callable[[str], Mount],
        parts: Parts,
        on_failure: OnFailure | None = None,
    ) -> None:
        self._find_mounts = mounts
        self._make_mount = make_mount
        self._mounts = dict(mounts())
        self._parts = parts
        self._arenas = Arenas()
        self._kept: set[str] = set()
        self._captures: dict[str, Capture] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks = Tasks(on_failure or _raise)
        self._unsettled: dict[str, RelitError | OSError] = {}
        self.trouble: dict[str, str] = {}
        self.laying: dict[str, asyncio.Task[None]] = {}

    # --- service -----------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Finish or undo snapshots, restores and forks that were cut short, and let their agents start. One for which
        that fails stays held, and no snapshot of it is taken; the others go on."""
        catalog = self._parts.catalog
        mine = [volume for volume in await catalog.volumes() if volume.node == self._parts.node]
        await asyncio.gather(*(catalog.unstage(volume.id, volume.newest + 1) for volume in mine))  # in one transaction
        for mount in self._mounts.values():
            self._unsettled.pop(mount.agent, None)
            try:
                await self._settle(mount)
            except (RelitError, OSError) as error:
                self._unsettled[mount.agent] = error
                told = _unsettled(mount.agent, error)
                self.trouble[mount.agent] = told.what
                log.error("%s", told)

    async def _settle(self, mount: Mount) -> None:
        await asyncio.to_thread(remove_tree, _draft(mount.home))
        if mount.home.is_dir():
            for done in await self._parts.restorer(mount.work).resume(mount.home):
                log.warning("%s: an interrupted restore was %s", mount.agent, done.outcome)
        elif await self._is_unlaid(mount.agent):
            await self._lay_and_release(mount)
            return
        await mount.holder.release()

    async def start(self) -> None:
        """``recover``, and a loop for each home from now on."""
        await self.recover()
        self._tasks.spawn(self._discover(), "homes")

    async def stop(self) -> None:
        """End the loops and the watches. A snapshot that is being taken is finished or never was."""
        await self._tasks.stop()
        self._parts.watcher.close()

    async def _discover(self) -> None:
        """A loop for every home, also for those that come later."""
        while True:
            self._mounts = dict(self._find_mounts())
            for agent in self._mounts.keys() - self._kept:
                self._kept.add(agent)
                self._tasks.spawn(self._keep(agent), f"snapshots-{agent}")
            await asyncio.sleep(_LOOK_S)

    async def _keep(self, agent: str) -> None:
        while (mount := self._mounts.get(agent)) is not None and mount.every_ms:
            if mount.home.is_dir():
                with contextlib.suppress(RelitError):  # reported already; the next round tries again
                    await self.snapshot(agent, "interval")
            await asyncio.sleep(mount.every_ms / 1000)
        self._kept.discard(agent)

    # --- snapshots ---------------------------------------------------------------------------------------------

    async def snapshot(
        self, agent: str, reason: Reason, note: str = "", *, always: bool = False
    ) -> tuple[Snapshot, bool]:
        """(the newest snapshot, whether it is new). NotFound when there is no such home."""
        async with self._lock(agent):
            return await self._take(agent, reason, note, always=always)

    async def _take(self, agent: str, reason: Reason, note: str = "", *, always: bool = False) -> tuple[Snapshot, bool]:
        capture = await self._capture(agent)
        catalog = self._parts.catalog
        try:
            self._check_room()
            taken = await capture.take(
                reason, note, always=always or not capture.volume.newest, position=lambda: self._position(agent)
            )
        except RelitError as error:
            self.trouble[agent] = error.what
            data = {"volume": agent, "error": error.what, "why": error.why}
            await self._parts.report([Event("", 0, "snapshot.failed", agent=agent, data=data)])
            raise
        self.trouble.pop(agent, None)
        if taken is not None:
            return taken, True
        return await catalog.snapshot(capture.volume.id, capture.volume.newest), False

    def _check_room(self) -> None:
        waiting = self._parts.waiting()
        if waiting > self._parts.most_waiting:
            raise StoreFull(
                "no snapshot was taken: too much waits for the blob store",
                why=f"{size(waiting)} wait, volumes.spool_limit is {size(self._parts.most_waiting)}",
                fix="relit volume stats shows the blob store; it goes on by itself when that answers again",
            )

    async def _position(self, agent: str) -> Position:
        return await self._parts.catalog.position(agent)

    async def _capture(self, agent: str) -> Capture:
        mount = self.mount(agent)
        if not mount.home.is_dir():
            raise NotFound(f"{agent} has no home", why=f"{mount.home} is not there", fix="relit up makes it")
        if agent in self._unsettled:
            raise _unsettled(agent, self._unsettled[agent])
        known = self._captures.get(agent)
        if known is not None:
            return known
        parts = self._parts
        wanted = Volume(id=parts.new_id(), name=agent, node=parts.node, created_at_ms=parts.clock.now_ms())
        made = Capture(
            await parts.catalog.make_volume(wanted),
            mount.home,
            catalog=parts.catalog,
            spool=parts.spool,
            id_of=parts.id_of,
            watch=await asyncio.to_thread(parts.watcher.watch, mount.home),
            freezer=mount.freezer,
            clock=parts.clock,
            new_id=parts.new_id,
            arenas=self._arenas,
            patterns=mount.patterns,
            limits=mount.limits,
        )
        self._captures[agent] = made
        return made

    def mount(self, agent: str) -> Mount:
        """NotFound for an agent that this node does not have."""
        if agent not in self._mounts:
            self._mounts = dict(self._find_mounts())
        if agent not in self._mounts:
            raise NotFound(f"there is no agent {agent!r} here", fix="relit ps shows those that there are")
        return self._mounts[agent]

    def has(self, agent: str) -> bool:
        """Whether that agent has a home here."""
        return agent in self._mounts and self._mounts[agent].home.is_dir()

    async def forget(self, agent: str) -> None:
        """Remove its volume with all snapshots; the home stays. NotFound, Conflict."""
        async with self.at_rest(agent):
            await self._parts.catalog.remove_volume(agent)

    @contextlib.asynccontextmanager
    async def at_rest(self, agent: str) -> AsyncIterator[None]:
        """Inside no snapshot of it is taken; afterwards its newest tree is read anew."""
        async with self._lock(agent):
            yield
            gone = self._captures.pop(agent, None)
            if gone is not None:
                gone.close()

    def _lock(self, agent: str) -> asyncio.Lock:
        return self._locks.setdefault(agent, asyncio.Lock())

    # --- going back --------------------------------------------------------------------------------------------

    async def preview(self, agent: str, number: int, paths: Collection[bytes] = ()) -> Going:
        """What ``restore`` would do. Takes a snapshot of the home as it is, to compare with."""
        async with self._lock(agent):
            if not self.mount(agent).home.is_dir():
                return await self._nothing_left(agent, number)
            before, _ = await self._take(agent, "request")
            return await self._going(before, number, await self._trees(before, number, agent), paths)

    async def restore(
        self, agent: str, number: int, paths: Collection[bytes] = (), *, meanwhile: Meanwhile | None = None
    ) -> Going:
        """Put files back; the agent is stopped meanwhile. The home as it was is a snapshot before, and the result
        one after, so that this can be undone. ``meanwhile`` is done when the files are back, the agent still held."""
        return await finished(self._restore(agent, number, paths, meanwhile))

    async def _restore(self, agent: str, number: int, paths: Collection[bytes], meanwhile: Meanwhile | None) -> Going:
        async with self._lock(agent):
            return await self._held(self.mount(agent), number, paths, meanwhile)

    async def _held(self, mount: Mount, number: int, paths: Collection[bytes], meanwhile: Meanwhile | None) -> Going:
        agent = mount.agent
        await mount.holder.hold(f"restore of snapshot {number}")
        point("volumes.back.held")
        try:
            if mount.home.is_dir() or paths:
                going = await self._in_place(mount, number, paths)
            else:
                going = await self._anew(mount, number)
            point("volumes.back.restored")
            if meanwhile is not None:
                await meanwhile()
            after, _ = await self._take(agent, "restore", f"as in {number}", always=True)
            point("volumes.back.taken")
        finally:
            await mount.holder.release()
        point("volumes.back.released")
        data = {"volume": agent, "number": after.number, "to": number, "paths": len(paths)}
        await self._parts.report(
            [Event("", 0, "volume.restored", agent=agent, data=data | {"before": going.before.number})]
        )
        return msgspec.structs.replace(going, after=after)

    async def _in_place(self, mount: Mount, number: int, paths: Collection[bytes]) -> Going:
        agent = mount.agent
        await asyncio.to_thread(mount.home.mkdir, mode=0o700, parents=True, exist_ok=True)
        before, _ = await self._take(agent, "before-restore", f"before going back to {number}", always=True)
        point("volumes.back.saved")
        trees = await self._trees(before, number, agent)
        going = await self._going(before, number, trees, paths)
        done = await self._parts.restorer(mount.work).in_place(
            mount.home,
            trees.current,
            trees.wanted,
            segments=(trees.now, trees.then),
            paths=paths or None,
            note=str(number),
        )
        return msgspec.structs.replace(going, done=done)

    async def _anew(self, mount: Mount, number: int) -> Going:
        """The home is gone: lay all of it."""
        going = await self._nothing_left(mount.agent, number)
        watched = self._captures.pop(mount.agent, None)
        if watched is not None:
            watched.close()  # it watches a folder that is no more
        return msgspec.structs.replace(going, done=await self._lay(mount, number))

    async def _nothing_left(self, agent: str, number: int) -> Going:
        """What a restore of a home that is gone does."""
        catalog = self._parts.catalog
        volume = await catalog.volume(agent)
        return Going(
            to=await catalog.snapshot(volume.id, number),
            before=await catalog.snapshot(volume.id, volume.newest),
            after=None,
            written=[entry for entry in await catalog.tree(volume.id, number) if entry.kind != "folder"],
            removed=[],
            adjusted=[],
        )

    async def _trees(self, before: Snapshot, number: int, agent: str) -> Trees:
        capture = await self._capture(agent)
        return await between(self._parts.catalog, await capture.tree(), before, number)

    async def _whole(self, volume: str, number: int) -> tuple[list[Entry], list[Segment]]:
        catalog = self._parts.catalog
        return await catalog.tree(volume, number), await catalog.all_segments(volume, number)

    async def _going(self, before: Snapshot, number: int, trees: Trees, paths: Collection[bytes]) -> Going:
        to = await self._parts.catalog.snapshot(before.volume, number)
        actions = await asyncio.to_thread(
            plan,
            trees.current,
            trees.wanted,
            now=contents(trees.current, trees.now),
            then=contents(trees.wanted, trees.then),
            paths=paths or None,
        )
        written = [action.entry for action in actions if action.op in ("write", "link", "hard")]
        stays = {entry.path for entry in trees.wanted}
        return Going(
            to=to,
            before=before,
            after=None,
            written=written,
            removed=[
                action.entry.path for action in actions if action.op == "aside" and action.entry.path not in stays
            ],
            adjusted=[action.entry for action in actions if action.op == "meta"],
        )

    # --- forks -------------------------------------------------------------------------------------------------

    async def fork(self, agent: str, number: int, new: str) -> Volume:
        """The volume ``new`` with that tree. Its files are laid down afterwards, and its agent is held until then."""
        parts, mount = self._parts, self._new_mount(new)
        source = await parts.catalog.volume(agent)
        now = parts.clock.now_ms()
        volume = Volume(id=parts.new_id(), name=new, node=parts.node, created_at_ms=now, origin=f"{agent}@{number}")
        first = Snapshot(
            id=parts.new_id(), volume=volume.id, number=1, at_ms=now, reason="fork", local_at_ms=now, note=volume.origin
        )
        await mount.holder.hold(f"its files come from {volume.origin}")
        point("volumes.fork.held")
        try:
            await parts.catalog.fork(source.id, number, volume, first)
        except BaseException:
            await mount.holder.release()
            raise
        point("volumes.fork.made")
        self.laying[new] = self._tasks.spawn(self._lay_and_release(mount), f"fork-{new}")
        return msgspec.structs.replace(volume, newest=1)

    async def laid(self) -> None:
        """Return when the files of every fork are where they belong."""
        await asyncio.gather(*self.laying.values())

    async def tidy(self) -> None:
        """Remove what restores replaced, but for the newest few of each home."""
        for mount in self._mounts.values():
            if mount.home.is_dir():
                await asyncio.to_thread(self._parts.restorer(mount.work).sweep_rejected, mount.home)

    def _new_mount(self, new: str) -> Mount:
        mount = self._mounts.get(new) or self._make_mount(new)
        if _holds_something(mount.home):
            raise Conflict(
                f"cannot fork to {new}",
                why=f"{mount.home} holds files already",
                fix="choose another name, or move them",
            )
        self._mounts[new] = mount
        return mount

    async def _lay_and_release(self, mount: Mount) -> None:
        async with self._lock(mount.agent):
            try:
                await self._lay(mount)
            except RelitError as error:
                self.trouble[mount.agent] = f"the files of the fork were not laid down: {error.what}"
                log.warning("%s: %s", mount.agent, error)
                return  # it stays held: without its files it must not start; the next start of relit tries again
            await mount.holder.release()

    async def _is_unlaid(self, name: str) -> bool:
        """Whether it is a fork whose files were never laid down."""
        try:
            volume = await self._parts.catalog.volume(name)
        except NotFound:
            return False
        return volume.newest == 1 and (await self._parts.catalog.snapshot(volume.id, 1)).reason == "fork"

    async def _lay(self, mount: Mount, number: int = 1) -> Restored:
        """Lay a whole tree beside where it belongs, then put it there in one step."""
        draft = _draft(mount.home)
        await asyncio.to_thread(mount.home.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(remove_tree, draft)
        volume = await self._parts.catalog.volume(mount.agent)
        entries, segments = await self._whole(volume.id, number)
        done = await self._parts.restorer(mount.work).fresh(draft, entries, segments=segments)
        await self._settle_journals(mount, entries, draft)
        point("volumes.fork.laid")
        await asyncio.to_thread(os.rename, draft, mount.home)
        point("volumes.fork.moved")
        (await self._capture(mount.agent)).laid(await asyncio.to_thread(laid, entries, segments, done))
        return done

    async def _settle_journals(self, mount: Mount, entries: Sequence[Entry], draft: Path) -> None:
        """Databases that were in a transaction together are told that they lie in this home."""
        journals = [each.path for each in entries if each.kind == "file" and each.path.endswith(JOURNAL)]
        homes = {_real(each.home) for each in self._mounts.values()}
        try:
            await asyncio.to_thread(relocate, os.fsencode(draft), journals, _real(mount.home), homes)
        except OSError as error:
            raise VolumeError(f"the journals of {mount.agent}'s databases were not settled", why=str(error)) from error

    async def lay_at(self, volume: Volume, number: int, target: Path) -> Restored:
        """Put any tree into an empty folder outside of homes. NotFound."""
        await self._parts.catalog.snapshot(volume.id, number)
        entries, segments = await self._whole(volume.id, number)
        return await self._parts.restorer(target).fresh(target, entries, segments=segments)


def _draft(home: Path) -> Path:
    """Where its files are laid before they are put in place."""
    return home.with_name(f".{home.name}.laying")


def _real(home: Path) -> bytes:
    """Its path as SQLite writes it down."""
    return os.fsencode(home.resolve())


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _unsettled(agent: str, error: RelitError | OSError) -> VolumeError:
    return VolumeError(
        f"an interrupted restore of {agent} was neither finished nor undone; it stays stopped",
        why=error.what if isinstance(error, RelitError) else str(error),
        fix=(error.fix if isinstance(error, RelitError) else "") or "mend the cause, then start relit again",
    )


def _raise(error: BaseException) -> None:
    raise error
