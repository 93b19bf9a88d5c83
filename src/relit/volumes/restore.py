"""A home made what it was: in place, whole, or fresh.

**In place**: everything that differs is laid down and synced in a *slots* folder beside the journal first; while that
happens (and when it fails: chunks out of reach, disk full) the home is untouched. Then the journal is written and the
steps are done (``swap``). **Full**: a sibling of the home is filled, then exchanged with it in one system call.
What was replaced stays in ``rejected/ID`` until ``sweep_rejected``. The agent must stand still meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from relit.errors import RelitError, VolumeDamaged, VolumeError
from relit.lib import crashpoints
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.ids import new_id
from relit.lib.spread import spread
from relit.manifest import Entry, Segment, Skipped
from relit.volumes import swap
from relit.volumes.beneath import Beneath, is_folder
from relit.volumes.disk import failed, remove_tree
from relit.volumes.laying import Hand, Job, Layer, Reader, much
from relit.volumes.plan import Action, contents, names_of, plan, priority
from relit.volumes.staging import Staging
from relit.volumes.swap import Journal, Swap

_FEW = 64  # up to so many folders are synced one by one


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore did. ``facts``: (ino, ctime_ns) of each path that it made or changed, as they are now."""

    files_written: int = 0
    removed: int = 0
    bytes_written: int = 0
    unchanged: int = 0
    skipped: list[Skipped] = []
    ms: int = 0
    rejected: str = ""  # the folder that holds what was replaced, if anything was
    facts: dict[bytes, tuple[int, int]] = {}


class Resumed(msgspec.Struct, frozen=True):
    """A restore that a crash had cut short, brought to an end. ``note``: the caller's, from before."""

    id: str
    outcome: Literal["finished", "undone"]
    note: str


@contextmanager
def _clear_errors(what: str) -> Iterator[None]:
    try:
        yield
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, OSError):
            raise _failed(what, first) from group
        raise first from group
    except OSError as error:
        raise _failed(what, error) from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _failed(what: str, error: BaseException) -> RelitError:
    return failed(f"{what}; the home is as it was", error, "mend the cause and restore again")


class Restorer:
    """Restores homes of one agent. ``work``: a folder outside of the home for journals and what was replaced; when
    it lies on another filesystem, a hidden sibling of the home is used. ``helper``: see ``Layer``."""

    def __init__(
        self,
        chunks: Reader,
        work: Path,
        *,
        clock: Clock = SYSTEM_CLOCK,
        helper: Callable[[Path], Hand] | None = None,
    ) -> None:
        self._chunks = chunks
        self._helper = helper
        self._work = work
        self._clock = clock

    async def in_place(
        self,
        home: Path,
        current: Sequence[Entry],
        wanted: Sequence[Entry],
        *,
        segments: tuple[Sequence[Segment], Sequence[Segment]] = ((), ()),
        paths: Collection[bytes] | None = None,
        exact: bool = False,
        note: str = "",
    ) -> Restored:
        """Write only what differs between ``current`` (the home now) and ``wanted`` (see ``plan``).

        Raises StoreFull, VolumeDamaged, VolumeError, or what the chunks' reader raises: the home is as it was then.
        """
        began = self._clock.monotonic()
        now, then = contents(current, segments[0]), contents(wanted, segments[1])
        actions = plan(current, wanted, now=now, then=then, paths=paths, exact=exact)
        if not actions:
            return Restored(unchanged=len(wanted), ms=self._since(began))
        folder = self._slots_for(home)
        try:
            with _clear_errors(f"{home} could not be restored"):
                staging = Staging(self._chunks, home, folder)
                try:
                    staging.names = names_of(current, paths)
                    journal = await staging.fill(actions, now, then, note)
                    done = await asyncio.to_thread(self._apply, staging.home, staging.slots, journal, folder)
                finally:
                    staging.close()
        finally:
            if folder.exists() and not (folder / "journal").exists():
                await asyncio.to_thread(remove_tree, folder)
        return msgspec.structs.replace(
            done,
            files_written=sum(action.op in ("write", "hard", "link") for action in actions),
            removed=sum(action.op == "aside" for action in actions),
            bytes_written=staging.written,
            unchanged=max(0, len(wanted) - len({action.entry.path for action in actions if action.op != "aside"})),
            skipped=[*staging.skipped, *done.skipped],
            ms=self._since(began),
        )

    async def full(
        self,
        home: Path,
        wanted: Sequence[Entry],
        *,
        segments: Sequence[Segment] = (),
        note: str = "",
        prepare: Callable[[Path], Awaitable[None]] | None = None,
    ) -> Restored:
        """Fill a sibling and exchange it with the home. Files that snapshots leave out go to ``rejected`` too.
        ``prepare`` is given the sibling when it is filled."""
        folder = self._slots_for(home)
        sibling = home.with_name(f".{home.name}.restoring-{folder.name.removesuffix('.new')}")
        try:
            made = await self.fresh(sibling, wanted, segments=segments)
            if prepare is not None:
                await prepare(sibling)
            crashpoints.point(swap.LAID)
            with _clear_errors(f"{home} could not be restored"):
                journal = Journal(
                    home=os.fsencode(home), note=note, sibling=os.fsencode(sibling), ino=sibling.stat().st_ino
                )
                await asyncio.to_thread(_exchange, folder, journal)
        finally:
            if not (folder / "journal").exists():
                await asyncio.to_thread(_drop, folder, sibling)
        return msgspec.structs.replace(made, rejected=str(_final(folder)))

    async def fresh(
        self,
        target: Path,
        wanted: Sequence[Entry],
        *,
        segments: Sequence[Segment] = (),
    ) -> Restored:
        """Lay a whole tree into a folder that is empty or not there. When it fails, what was laid so far stays for the
        caller to remove."""
        began = self._clock.monotonic()
        with _clear_errors(f"{target} could not be filled"):
            await asyncio.to_thread(_empty, target)
            then = contents(wanted, segments)
            actions = plan((), wanted, then=then)
            with Beneath(target) as root:
                written, skipped = await self._lay_tree(target, root, actions, then)
                found = await asyncio.to_thread(_facts, root, [entry.path for entry in wanted])
        return Restored(
            files_written=sum(action.op in ("write", "hard", "link") for action in actions),
            bytes_written=written,
            skipped=skipped,
            ms=self._since(began),
            facts=found,
        )

    async def _lay_tree(
        self, target: Path, root: Beneath, actions: Sequence[Action], then: dict[bytes, bytes]
    ) -> tuple[int, list[Skipped]]:
        for action in actions:
            if action.op == "folder" and action.entry.path:
                root.mkdir(action.entry.path)
        files = [action.entry for action in actions if action.op == "write"]
        layer = Layer(self._chunks, target, helper=self._helper if much(files) else None)
        try:
            for part in _parts(files):
                await layer.lay([Job(each.path, each, then[each.path]) for each in part])
            await layer.finish()
            missed = await asyncio.to_thread(_finish_tree, root, actions)
        finally:
            await asyncio.to_thread(layer.close)
        return layer.written, [*layer.skipped, *missed]

    async def resume(self, home: Path) -> list[Resumed]:
        """Bring what a crash cut short to an end; call it before the agent starts. Safe twice."""
        found = []
        for base in {self._work / "rejected", _beside(home)}:
            for folder in sorted(base.glob("*.new")):
                done = await asyncio.to_thread(_resume, home, folder)
                if done is not None:
                    found.append(done)
        for stray in home.parent.glob(f".{home.name}.restoring-*"):
            await asyncio.to_thread(remove_tree, stray)
        return found

    def reject(self, home: Path) -> None:
        """Put a whole home aside, to what restores replaced."""
        folder = self._slots_for(home)
        os.rename(folder, _final(folder))
        os.rename(home, _final(folder) / "home")

    def sweep_rejected(self, home: Path, *, keep: int = 3) -> int:
        """Delete what restores replaced, but for the newest ``keep``; answers how many went."""
        swept = 0
        for base in {self._work / "rejected", _beside(home)}:
            done = sorted(path for path in base.glob("*") if not path.name.endswith(".new"))
            for path in done[: max(0, len(done) - keep)]:
                remove_tree(path)
                swept += 1
        return swept

    def _slots_for(self, home: Path) -> Path:
        base = self._work / "rejected"
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        if base.stat().st_dev != home.stat().st_dev:
            base = _beside(home)
            base.mkdir(exist_ok=True, mode=0o700)
        folder = base / f"{new_id()}.new"
        with spread(base):
            folder.mkdir(mode=0o700)
        return folder

    def _apply(self, home: Beneath, slots: Beneath, journal: Journal, folder: Path) -> Restored:
        crashpoints.point(swap.STAGED)
        slots.write(swap.JOURNAL, swap.encode(journal))
        slots.sync(b"")
        crashpoints.point(swap.JOURNALED)
        return _run(home, slots, journal, folder)

    def _since(self, began: float) -> int:
        return round((self._clock.monotonic() - began) * 1000)


def _run(home: Beneath, slots: Beneath, journal: Journal, folder: Path) -> Restored:
    """Do the steps; when one fails, take all back and raise what failed."""
    swapping = Swap(home, slots, journal)
    try:
        swapping.apply()
        _sync(home, journal)
    except (OSError, VolumeError):
        swapping.undo()
        _sync(home, journal)
        slots.unlink(swap.JOURNAL)
        raise
    crashpoints.point(swap.APPLIED)
    _done(folder)
    crashpoints.point(swap.DONE)
    touched = [step.path for step in journal.steps if step.op != "aside"]
    return Restored(skipped=swapping.skipped, facts=_facts(home, touched), rejected=_kept(slots, _final(folder)))


def _kept(slots: Beneath, folder: Path) -> str:
    """The folder of what was replaced. None is kept when nothing was: it would push a real one out."""
    if slots.names(b"") != [swap.JOURNAL]:
        return str(folder)
    remove_tree(folder)
    return ""


def _sync(home: Beneath, journal: Journal) -> None:
    folders = {step.path.rpartition(b"/")[0] for step in journal.steps if step.op in ("put", "aside")}
    if len(folders) > _FEW:
        home.sync_all()
        return
    for path in folders:
        if is_folder(home.lstat(path)):
            home.sync(path)


def _empty(target: Path) -> None:
    with spread(target.parent):
        target.mkdir(mode=0o700, exist_ok=True)
    if any(target.iterdir()):
        raise VolumeError(f"{target} is not empty", fix="name an empty or a new folder")


def _final(folder: Path) -> Path:
    return folder.with_name(folder.name.removesuffix(".new"))


def _done(folder: Path) -> None:
    """The mark that a restore is complete."""
    folder.rename(_final(folder))
    with Beneath(folder.parent) as base:
        base.sync(b"")


def _beside(home: Path) -> Path:
    return home.with_name(f".{home.name}.rejected")


def _drop(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            remove_tree(folder)


def _exchange(folder: Path, journal: Journal) -> None:
    with Beneath(folder) as slots:
        with Beneath(Path(os.fsdecode(journal.sibling))) as tree:
            tree.sync_all()
        slots.write(swap.JOURNAL, swap.encode(journal))
        slots.sync(b"")
    crashpoints.point(swap.JOURNALED)
    try:
        _exchange_steps(folder, journal)
    except OSError:
        home, sibling = Path(os.fsdecode(journal.home)), Path(os.fsdecode(journal.sibling))
        if home.exists() and home.stat().st_ino != journal.ino and sibling.exists():
            (folder / "journal").unlink()  # nothing happened: the home is a mount point, for example
        raise


def _exchange_steps(folder: Path, journal: Journal) -> None:
    home, sibling = Path(os.fsdecode(journal.home)), Path(os.fsdecode(journal.sibling))
    with Beneath(home.parent) as above, Beneath(folder) as slots:
        old, new = os.fsencode(home.name), os.fsencode(sibling.name)
        there = above.lstat(old)
        if there is None or there.st_ino != journal.ino:
            _swap_trees(above, old, new)
        crashpoints.point(swap.EXCHANGED)
        if above.lstat(new) is not None:
            above.move(new, slots, b"home")
        above.sync(b"")
        crashpoints.point(swap.MOVED)
    _done(folder)


def _swap_trees(above: Beneath, old: bytes, new: bytes) -> None:
    above.exchange(new, above, old)


def _resume(home: Path, folder: Path) -> Resumed | None:
    if not (folder / "journal").exists():
        remove_tree(folder)
        return None
    try:
        journal = swap.decode((folder / "journal").read_bytes())
    except msgspec.MsgspecError as error:
        raise VolumeDamaged(f"{folder}/journal is not readable", why=str(error), fix=f"look into {folder}") from error
    name = _final(folder).name
    if journal.sibling:
        _exchange_steps(folder, journal)
        return Resumed(name, "finished", journal.note)
    try:
        with Beneath(home) as root, Beneath(folder) as slots:
            _run(root, slots, journal, folder)
    except (OSError, VolumeError):
        if (folder / "journal").exists():
            raise
        remove_tree(folder)
        return Resumed(name, "undone", journal.note)
    return Resumed(name, "finished", journal.note)


def _facts(root: Beneath, paths: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    found = {path: root.lstat(path) for path in paths}
    return {path: (each.st_ino, each.st_ctime_ns) for path, each in found.items() if each is not None}


def _finish_tree(root: Beneath, actions: Sequence[Action]) -> list[Skipped]:
    missed: list[Skipped] = []
    for action in actions:
        entry = action.entry
        if action.op == "link":
            root.symlink(entry.target, entry.path)
            missed += swap.dress_at(root, entry.path, entry)
        elif action.op == "hard":
            root.link(entry.hard, root, entry.path)
        elif action.op == "settle":
            missed += swap.dress_at(root, entry.path, entry)
    return missed


def _parts(files: Sequence[Entry]) -> list[list[Entry]]:
    """Cut where the priority's class changes: within a class packs are read in their own order."""
    parts: list[list[Entry]] = []
    last: int | None = None
    for entry in files:
        rank = min(priority(entry)[0], 2)
        if rank != last:
            parts.append([])
            last = rank
        parts[-1].append(entry)
    return parts
