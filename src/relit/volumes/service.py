"""All homes of one node: snapshots when they are due, restores, forks. One of it per node, behind a lock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path

import msgspec

from relit.errors import Conflict, NotFound, RelitError, VolumeError
from relit.events import Event
from relit.lib.crashpoints import point
from relit.lib.service import OnFailure, Tasks, finished
from relit.manifest import Position, Reason, Snapshot, Volume
from relit.volumes import mount as mounted
from relit.volumes.arenas import Arenas
from relit.volumes.between import Trees, between
from relit.volumes.capture import Capture
from relit.volumes.carry import carried
from relit.volumes.disk import attempted
from relit.volumes.due import Due, check_laid, to_be_laid
from relit.volumes.going import Asked, Going, going, lost, open_up, staying, unread, without
from relit.volumes.homelaying import HomeLaying, Laid
from relit.volumes.mount import Mount, is_there, nowhere, parted, unsettled, way_back
from relit.volumes.parts import Parts
from relit.volumes.restore import Restored
from relit.volumes.troubles import check_room, told

Meanwhile = Callable[[], Awaitable[None]]
POINTS: tuple[str, ...] = (
    "volumes.fork.held",
    "volumes.fork.made",
    "volumes.back.held",
    "volumes.back.saved",
    "volumes.back.restored",
    "volumes.back.taken",
    "volumes.back.released",
)
_LOOK_S = 5.0  # between looks for homes that are new
log = logging.getLogger("relit.volumes")


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
        self._unsettled: dict[str, RelitError] = {}
        self.trouble: dict[str, str] = {}
        self.laying: dict[str, asyncio.Task[None]] = {}
        self._laying = HomeLaying(
            parts.catalog,
            parts.restorer,
            lambda: [each.home for each in self._mounts.values()],
            parts.sync,
            self._tasks,
        )

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
            except Exception as error:  # noqa: BLE001 - whatever it is: it is told, and the others go on
                self._hold_back(mount.agent, told(f"the home of {mount.agent} was not settled", error))

    def _hold_back(self, agent: str, error: RelitError) -> None:
        """Its agent stays held, and no snapshot of it is taken."""
        self._unsettled[agent] = error
        trouble = unsettled(agent, error)
        self.trouble[agent] = trouble.what
        log.error("%s", trouble)

    async def _settle(self, mount: Mount) -> None:
        match await self._laying.verdict(mount):
            case "lay":
                await mount.holder.hold("its files are to be laid down first")
                await self._lay(mount)
            case "sync":
                self._laying.sync(mount)
        if mount.home.is_dir():
            for done in await self._parts.restorer(mount.work).resume(mount.home):
                log.warning("%s: an interrupted restore was %s", mount.agent, done.outcome)
        await mount.holder.release()

    async def start(self) -> None:
        """``recover``, and a loop for each home from now on."""
        await self.recover()
        self._tasks.spawn(self._discover(), "homes")

    async def stop(self) -> None:
        """End the loops and the watches. A snapshot that is being taken is finished or never was; the disk has what
        was laid."""
        await self._laying.settled()
        await self._tasks.stop()
        self._parts.watcher.close()

    async def _discover(self) -> None:
        """A loop for every home, also for those that come later."""
        while True:
            try:
                self._mounts = dict(self._find_mounts())
            except OSError as error:  # those that are known go on
                log.error("homes could not be looked for: %s", error)
            for agent in self._mounts.keys() - self._kept:
                self._kept.add(agent)
                self._tasks.spawn(self._keep(agent), f"snapshots-{agent}")
            await asyncio.sleep(_LOOK_S)

    async def _keep(self, agent: str) -> None:
        while (mount := self._mounts.get(agent)) is not None and mount.every_ms:
            if not mounted.is_absent(mount.home):
                with contextlib.suppress(RelitError):  # told already; the next round tries again
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

    async def _take(
        self, agent: str, reason: Reason, note: str = "", *, always: bool = False, only: Collection[bytes] | None = None
    ) -> tuple[Snapshot, bool]:
        try:
            capture = await self._capture(agent)
            check_room(self._parts.waiting(), self._parts.most_waiting)
            always = always or not capture.volume.newest
            taken = await capture.take(reason, note, always=always, only=only, position=lambda: self._position(agent))
        except NotFound:
            raise
        except Exception as error:
            failed = told(f"no snapshot of {agent} was taken", error)
            await self._failed(agent, failed, foreseen=isinstance(error, RelitError | OSError))
            if failed is error:
                raise
            raise failed from error
        self.trouble.pop(agent, None)
        if taken is not None:
            return taken, True
        return await self._parts.catalog.snapshot(capture.volume.id, capture.volume.newest), False

    async def _failed(self, agent: str, error: RelitError, *, foreseen: bool) -> None:
        """Tell of it. After what nobody foresaw the next snapshot starts from what the catalog has."""
        if not foreseen:
            self._let_go(agent)
        self.trouble[agent] = error.what
        data = {"volume": agent, "error": error.what, "why": error.why}
        await self._parts.report([Event("", 0, "snapshot.failed", agent=agent, data=data)])

    async def _position(self, agent: str) -> Position:
        return await self._parts.catalog.position(agent)

    async def _capture(self, agent: str) -> Capture:
        mount = await self._mount(agent)
        if agent in self._unsettled:
            raise unsettled(agent, self._unsettled[agent])
        if not is_there(mount.home):
            if await self._laying.volume(agent) is None:
                raise nowhere(agent)
            raise NotFound(f"the home of {agent} is gone", why=f"{mount.home} is not there", fix=way_back(agent))
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

    async def _mount(self, agent: str) -> Mount:
        """NotFound for an agent that has neither a home nor a volume on this node."""
        if agent not in self._mounts:
            self._mounts = dict(self._find_mounts())
        if agent in self._mounts:
            return self._mounts[agent]
        if await self._laying.volume(agent) is not None:
            return self._make_mount(agent)
        raise nowhere(agent)

    def state(self, volume: Volume) -> str:
        """What is wrong with a volume's home or its snapshots; empty when nothing is."""
        agent = volume.name
        if volume.node != self._parts.node or (agent in self.laying and not self.laying[agent].done()):
            return self.trouble.get(agent, "")
        home = (self._mounts.get(agent) or self._make_mount(agent)).home
        try:
            there = is_there(home)
        except VolumeError as error:
            return error.what
        return self.trouble.get(agent, "" if there else f"{home} is gone: {way_back(agent)}")

    def has(self, agent: str) -> bool:
        """Whether that agent has a home here."""
        return agent in self._mounts and self._mounts[agent].home.is_dir()

    async def holds(self, agent: str, path: bytes) -> bool:
        """Whether that path is in the agent's home now."""
        return await asyncio.to_thread(mounted.holds, (await self._mount(agent)).home, path)

    async def forget(self, agent: str, *, home: bool = False) -> tuple[Path | None, bool]:
        """Remove its volume with all snapshots. Answers where its home is, if there is one, and whether that was put
        away there (``home``), so that no new volume is made of it. NotFound, Conflict: nothing was done."""
        return await finished(self._forget(agent, home))

    async def _forget(self, agent: str, home: bool) -> tuple[Path | None, bool]:
        async with self._lock(agent):
            await self._parts.catalog.volume(agent)
            mount = await self._mount(agent)
            if home:
                mounted.check_dispensable(mount)
                await mount.holder.hold("its home is put away")
            try:
                await self._parts.catalog.remove_volume(agent)
                self._let_go(agent)
                if home:
                    away = await asyncio.to_thread(mounted.put_away, mount, self._parts.new_id())
                    return away, away is not None
                return (mount.home if mount.home.is_dir() else None), False
            finally:
                if home:
                    await mount.holder.release()

    @contextlib.asynccontextmanager
    async def at_rest(self, agent: str) -> AsyncIterator[None]:
        """Inside no snapshot of it is taken; afterwards its newest tree is read anew."""
        async with self._lock(agent):
            yield
            self._let_go(agent)

    def _let_go(self, agent: str) -> None:
        gone = self._captures.pop(agent, None)
        if gone is not None:
            gone.close()

    def _lock(self, agent: str) -> asyncio.Lock:
        return self._locks.setdefault(agent, asyncio.Lock())

    # --- going back --------------------------------------------------------------------------------------------

    async def preview(
        self, agent: str, number: int, paths: Collection[bytes] = (), *, exact: bool = False, full: bool = False
    ) -> Going:
        """What ``restore`` would do. Takes a snapshot of the home as it is, to compare with."""
        asked = Asked(number=number, paths=paths, exact=exact, full=full)
        async with self._lock(agent):
            mount = await self._mount(agent)
            home = mount.home
            if not is_there(home) and paths:
                raise parted(agent, home)
            if not is_there(home) or to_be_laid(home):
                return await lost(self._parts.catalog, agent, asked)
            before, _ = await self._take(agent, "request")
            planned, _ = await self._planned(mount, before, asked)
            if full:
                return planned
            with attempted(f"what a restore of {agent} would do was not found out"):
                stays = await asyncio.to_thread(staying, home, planned.removed)
            return without(planned, [*unread(before, asked.paths), *stays])

    async def restore(
        self,
        agent: str,
        number: int,
        paths: Collection[bytes] = (),
        *,
        exact: bool = False,
        full: bool = False,
        meanwhile: Meanwhile | None = None,
    ) -> Going:
        """Put files back; the agent is stopped meanwhile. The home as it was is a snapshot before, and the result
        one after, so that this can be undone. ``exact``: what came since at and below ``paths`` is removed. ``full``:
        the home is laid anew and exchanged with what is there, which goes to ``rejected``, with what snapshots leave
        out. ``meanwhile`` is done when the files are back, the agent still held."""
        asked = Asked(number=number, paths=paths, exact=exact, full=full)
        return await finished(self._restore(agent, asked, meanwhile))

    async def _restore(self, agent: str, asked: Asked, meanwhile: Meanwhile | None) -> Going:
        async with self._lock(agent):
            mount = await self._mount(agent)
            if not is_there(mount.home) and asked.paths:  # a symlink is refused before anybody is stopped
                raise parted(agent, mount.home)
            with attempted(f"{agent} was not put back to snapshot {asked.number}"):
                return await self._held(mount, asked, meanwhile)

    async def _held(self, mount: Mount, asked: Asked, meanwhile: Meanwhile | None) -> Going:
        agent, number = mount.agent, asked.number
        await mount.holder.hold(f"restore of snapshot {number}")
        point("volumes.back.held")
        try:
            if asked.paths or (is_there(mount.home) and not to_be_laid(mount.home)):
                done = await self._back(mount, asked)
                only = None if asked.full or done.done is None else {*done.done.facts, *done.removed}
            else:
                done, only = await self._anew(mount, asked), None
            point("volumes.back.restored")
            if meanwhile is not None:
                await meanwhile()
            try:
                after, _ = await self._take(agent, "restore", f"as in {number}", always=True, only=only)
            except RelitError as error:
                error.what = f"{agent} is back at snapshot {number}, but that is not recorded: {error.what}"
                raise
            point("volumes.back.taken")
        finally:
            if not to_be_laid(mount.home):
                await mount.holder.release()
        point("volumes.back.released")
        data = {"volume": agent, "number": after.number, "to": number, "paths": len(asked.paths)}
        await self._parts.report(
            [Event("", 0, "volume.restored", agent=agent, data=data | {"before": done.before.number})]
        )
        return msgspec.structs.replace(done, after=after)

    async def _back(self, mount: Mount, asked: Asked) -> Going:
        agent, number = mount.agent, asked.number
        check_laid(mount.home, f"single files of {agent} cannot be put back")
        before = await self._before(mount, number)
        point("volumes.back.saved")
        planned, trees = await self._planned(mount, before, asked)
        if asked.full:
            made = await self._laying.exchange(mount, before.volume, number)
            await self._renewed(agent, made)
            return without(planned, made.done.skipped, made.done)
        done = await self._in_place(mount, trees, asked)
        await (await self._capture(agent)).put_back(trees.wanted, trees.then, done)
        return without(planned, [*unread(before, asked.paths), *done.skipped], done)

    async def _in_place(self, mount: Mount, trees: Trees, asked: Asked) -> Restored:
        await self._laying.settle(mount)  # of a home that is to be laid anew after a power cut no journal must tell
        return await self._parts.restorer(mount.work).in_place(
            mount.home,
            trees.current,
            trees.wanted,
            segments=(trees.now, trees.then),
            paths=asked.paths or None,
            exact=asked.exact,
            note=str(asked.number),
        )

    async def _before(self, mount: Mount, number: int) -> Snapshot:
        """The home as it is. What cannot be read is opened if it is ours, so that it goes back like all else."""
        while True:
            taken, _ = await self._take(mount.agent, "before-restore", f"before going back to {number}", always=True)
            if not await asyncio.to_thread(open_up, mount.home, unread(taken)):
                return taken

    async def _anew(self, mount: Mount, asked: Asked) -> Going:
        """The home is gone: lay all of it."""
        planned, number = await lost(self._parts.catalog, mount.agent, asked), asked.number
        earlier = await self._laying.noted(mount)
        await self._laying.note(mount, Due(volume=planned.to.volume, number=number, newest=planned.before.number))
        try:
            done = await self._lay(mount)
        except BaseException:
            await self._laying.note(mount, earlier)
            raise
        return without(planned, done.skipped, done)

    async def _planned(self, mount: Mount, before: Snapshot, asked: Asked) -> tuple[Going, Trees]:
        catalog = self._parts.catalog
        to, tree = await catalog.snapshot(before.volume, asked.number), await (await self._capture(mount.agent)).tree()
        trees = await between(catalog, tree, before, asked.number)
        if mount.carry_over and not asked.paths and not asked.full:
            trees = carried(trees, mount.carry_over)
        return await asyncio.to_thread(going, to, before, trees, asked), trees

    # --- forks -------------------------------------------------------------------------------------------------

    async def fork(self, agent: str, number: int, new: str) -> Volume:
        """The volume ``new`` with that tree. Its files are laid down afterwards, and its agent is held until then."""
        return await finished(self._fork(agent, number, new))

    async def _fork(self, agent: str, number: int, new: str) -> Volume:
        parts, mount = self._parts, self._new_mount(new)
        source = await parts.catalog.volume(agent)
        now = parts.clock.now_ms()
        volume = Volume(id=parts.new_id(), name=new, node=parts.node, created_at_ms=now, origin=f"{agent}@{number}")
        first = Snapshot(
            id=parts.new_id(), volume=volume.id, number=1, at_ms=now, reason="fork", local_at_ms=now, note=volume.origin
        )
        with attempted(f"{agent} was not forked to {new}"):
            await mount.holder.hold(f"its files come from {volume.origin}")
        point("volumes.fork.held")
        try:
            with attempted(f"{agent} was not forked to {new}"):
                await self._laying.note(mount, Due(volume=volume.id, number=1, newest=1))
            await parts.catalog.fork(source.id, number, volume, first)
        except BaseException:
            await self._laying.note(mount, None)
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
            try:
                if mount.home.is_dir():
                    await asyncio.to_thread(self._parts.restorer(mount.work).sweep_rejected, mount.home)
            except OSError as error:
                log.warning("what restores of %s replaced was not removed: %s", mount.agent, error)

    def _new_mount(self, new: str) -> Mount:
        mount = self._mounts.get(new) or self._make_mount(new)
        with attempted(f"cannot fork to {new}"):
            taken = is_there(mount.home) and any(mount.home.iterdir())
        if taken:
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
            except Exception as error:  # noqa: BLE001 - whatever it is: it is told, and the others go on
                self._hold_back(mount.agent, told(f"{mount.home} was not filled", error))
                return  # it stays held: without its files it must not start; the next start of relit tries again
            await mount.holder.release()

    async def _lay(self, mount: Mount) -> Restored:
        """What was noted. The disk gets it while the agent goes on."""
        made = await self._laying.lay(mount)
        if made is None:
            return Restored()
        self._unsettled.pop(mount.agent, None)
        self._laying.sync(mount)  # first: what follows may fail, and then the record must not stay for ever
        await self._renewed(mount.agent, made)
        return made.done

    async def _renewed(self, agent: str, made: Laid) -> None:
        """Watch the folder that the home is now."""
        self._let_go(agent)
        await (await self._capture(agent)).renewed(made.entries, made.segments, made.done)

    async def lay_at(self, volume: Volume, number: int, target: Path) -> Restored:
        """Put any tree into an empty folder outside of homes. NotFound."""
        return await self._laying.lay_at(volume, number, target)


def _raise(error: BaseException) -> None:
    raise error
