"""Everything new of a restore, laid down and made durable before the home is touched."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from relit.errors import VolumeError
from relit.manifest import Entry, Skipped
from relit.volumes.beneath import Beneath, is_folder
from relit.volumes.laying import Job, Layer, Reader, in_blocks
from relit.volumes.plan import SIDE_FILES, Action
from relit.volumes.swap import Journal, Step, dress_at, facts

_FEW = 64  # up to so many files are synced one by one


class Staging:
    """A slots folder and the home it is for."""

    def __init__(self, chunks: Reader, home: Path, folder: Path) -> None:
        self._chunks = chunks
        self._path = home
        self._folder = folder
        self.home = Beneath(home)
        self.slots = Beneath(folder)
        self.names: Mapping[bytes, Sequence[bytes]] = {}  # of hard-linked files, as ``plan.names_of`` has them
        self.skipped: list[Skipped] = []
        self.written = 0

    def close(self) -> None:
        """Safe twice."""
        self.home.close()
        self.slots.close()

    async def fill(
        self, actions: Sequence[Action], now: Mapping[bytes, bytes], then: Mapping[bytes, bytes], note: str
    ) -> Journal:
        """Lay down what the actions need; answers the steps that bring it into place."""
        slots = {action.entry.path: b"%d" % no for no, action in enumerate(actions)}
        await self._files(actions, slots, now, then)
        steps = await asyncio.to_thread(self._steps, actions, slots)
        return Journal(home=os.fsencode(self._path), note=note, steps=steps)

    async def _files(
        self,
        actions: Sequence[Action],
        slots: Mapping[bytes, bytes],
        now: Mapping[bytes, bytes],
        then: Mapping[bytes, bytes],
    ) -> None:
        writes = [action for action in actions if action.op == "write"]
        layer = Layer(self._chunks, self._folder, sync=len(writes) <= _FEW)
        jobs = [Job(slots[each.entry.path], each.entry, then[each.entry.path]) for each in writes]
        try:
            for job, action in zip(jobs, writes, strict=True):
                self._patchable(job, action.was, now)
            await layer.lay(jobs)
        finally:
            for job in jobs:
                if job.base is not None:
                    os.close(job.base)
            layer.close()
        if len(writes) > _FEW:
            await asyncio.to_thread(self.slots.sync_all)
        self.skipped += layer.skipped
        self.written = layer.written

    def _patchable(self, job: Job, was: Entry | None, now: Mapping[bytes, bytes]) -> None:
        """Take the file that is there as a base, if it is certainly the one that ``was`` describes."""
        if was is None or was.hard or was.kind != "file" or not (in_blocks(was) and in_blocks(job.entry)):
            return
        fd = self.home.open(was.path, os.O_RDONLY)
        found = os.fstat(fd)
        if (found.st_ino, found.st_ctime_ns, found.st_size) != (was.ino, was.ctime_ns, was.size):
            os.close(fd)
            return
        job.base, job.base_ids = fd, now[was.path]

    # --- steps -------------------------------------------------------------------------------------------------

    def _steps(self, actions: Sequence[Action], slots: Mapping[bytes, bytes]) -> list[Step]:
        made = [step for action in actions if (step := self._step(action, slots)) is not None]
        shm = self._stale_shm(actions)
        moves = [step for step in (*shm, *made) if step.op != "settle"]
        moves.sort(key=lambda step: {"aside": 0, "put": 1}.get(step.op, 2))
        settles = self._settles(moves, [step for step in made if step.op == "settle"])
        opens = [
            Step("open", step.path, was=step.was)
            for step in reversed(settles)
            if step.was is not None and step.was.kind == "folder" and step.was.mode & 0o300 != 0o300
        ]
        return [*opens, *moves, *settles]

    def _step(self, action: Action, slots: Mapping[bytes, bytes]) -> Step | None:
        entry, slot = action.entry, slots[action.entry.path]
        if action.op in ("meta", "settle"):
            return Step("meta" if action.op == "meta" else "settle", entry.path, was=self._now(entry.path), entry=entry)
        if action.op == "aside":
            return Step("aside", entry.path, b"aside-" + slot)
        if not entry.path:
            return None
        if action.op == "folder":
            self.slots.mkdir(slot)
        elif action.op == "link":
            self.slots.symlink(entry.target, slot)
            self.skipped += dress_at(self.slots, slot, entry)
        elif action.op == "hard":
            self._hard(entry, slot, slots)
        elif action.was is not None:
            self._check_names(action.was)
        staged = self.slots.lstat(slot)
        if staged is None:
            raise VolumeError(f"{os.fsdecode(entry.path)!r} was not laid down", fix="restore again")
        return Step("put", entry.path, slot, ino=staged.st_ino)

    def _hard(self, entry: Entry, slot: bytes, slots: Mapping[bytes, bytes]) -> None:
        first = slots.get(entry.hard)
        if first is not None and self.slots.lstat(first) is not None:
            self.slots.link(first, self.slots, slot)
        else:
            self.home.link(entry.hard, self.slots, slot)

    def _check_names(self, was: Entry) -> None:
        """A file that parts from names which this restore is not about is told of."""
        found = self.home.lstat(was.path)
        if found is None or is_folder(found) or found.st_nlink == 1:
            return
        names = {was.path, *self.names.get(was.hard or was.path, ())}
        if sum((other := self.home.lstat(name)) is not None and other.st_ino == found.st_ino for name in names) < (
            found.st_nlink
        ):
            self.skipped.append(
                Skipped(was.path, "has further names that were not restored: they are files of their own now")
            )

    def _now(self, path: bytes) -> Entry | None:
        above = path.rpartition(b"/")[0]
        if above and not is_folder(self._lstat(above)):
            return None
        return facts(self.home, path)

    def _lstat(self, path: bytes) -> os.stat_result | None:
        """``lstat`` that takes a file or symlink on the way for "not there": it is about to be replaced."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            if not is_folder(self.home.lstat(b"/".join(parts[:depth]))):
                return None
        return self.home.lstat(path)

    def _stale_shm(self, actions: Sequence[Action]) -> list[Step]:
        """A shared-memory index beside a database that is put back belongs to another log: SQLite makes a new one."""
        bases = set()
        for action in actions:
            if action.op in ("write", "aside", "hard"):
                path = action.entry.path
                bases.add(path)
                bases.update(path[: -len(side)] for side in SIDE_FILES if path.endswith(side))
        known = {action.entry.path for action in actions}
        stale = [base + b"-shm" for base in sorted(bases) if base + b"-shm" not in known]
        return [Step("aside", path, b"shm-%d" % no) for no, path in enumerate(stale) if self._lstat(path) is not None]

    def _settles(self, moves: Sequence[Step], listed: list[Step]) -> list[Step]:
        """Folders in which names change keep their times, or get those wanted; the deepest first."""
        there = {step.path: step for step in listed}
        gone = {step.path for step in moves}
        for step in moves:
            above = step.path.rpartition(b"/")[0]
            if step.op in ("aside", "put") and above not in there and above not in gone:
                was = self._now(above)
                if was is not None:
                    there[above] = Step("settle", above, was=was, entry=was)
        return sorted(there.values(), key=lambda step: -(step.path.count(b"/") + 1 if step.path else 0))
