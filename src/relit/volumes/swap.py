"""The journaled half of a restore: what was staged is swapped with what is there, or swapped back.

Everything new stands ready and durable in a *slots* folder of the same filesystem before the home is touched. Each
step is one rename (``RENAME_EXCHANGE`` where something is in the way), so what it replaces ends in the slot: nothing
is deleted, and undoing is the same steps backwards. A step knows by inode whether it was done, so all of them can be
repeated after a crash. The journal lies in the slots folder: with it, a restore is finished at the next start;
without it, nothing was changed yet and the folder is dropped.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Literal

import msgspec

from relit.lib import crashpoints
from relit.manifest import Entry, Skipped
from relit.volumes.beneath import Beneath, is_folder
from relit.volumes.writing import dress

POINTS = (
    "volumes.restore.staged",
    "volumes.restore.journaled",
    "volumes.restore.step",
    "volumes.restore.applied",
    "volumes.restore.done",
    "volumes.restore.laid",
    "volumes.restore.exchanged",
    "volumes.restore.moved",
)
STAGED, JOURNALED, STEP, APPLIED, DONE, LAID, EXCHANGED, MOVED = POINTS
STAYS = "stays: it holds files that snapshots leave out"
UNDO = "volumes.restore.undo"  # passed only where a step fails
JOURNAL = b"journal"


class Step(msgspec.Struct):
    """``aside``: path → slot; ``put``: slot → path (``ino`` of what is moved); ``meta``, ``settle``: only facts."""

    op: Literal["open", "aside", "put", "meta", "settle"]
    path: bytes
    slot: bytes = b""
    ino: int = 0
    was: Entry | None = None
    entry: Entry | None = None


class Journal(msgspec.Struct):
    """What a restore does, before it does it. ``sibling``: a whole tree that is exchanged with the home."""

    home: bytes
    note: str
    steps: list[Step] = []
    sibling: bytes = b""
    ino: int = 0


def encode(journal: Journal) -> bytes:
    """As bytes for the file."""
    return msgspec.msgpack.encode(journal)


def decode(data: bytes) -> Journal:
    """Back from ``encode``."""
    return msgspec.msgpack.decode(data, type=Journal)


def facts(home: Beneath, path: bytes) -> Entry | None:
    """What ``dress`` would need to make this path's metadata again."""
    found = home.lstat(path)
    if found is None:
        return None
    kind: Literal["file", "folder", "link"] = "file"
    if stat.S_ISDIR(found.st_mode):
        kind = "folder"
    elif stat.S_ISLNK(found.st_mode):
        kind = "link"
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        size=found.st_size,
        xattrs=b"" if kind == "link" else _xattrs(home, path),
        ino=found.st_ino,
        ctime_ns=found.st_ctime_ns,
    )


def _xattrs(home: Beneath, path: bytes) -> bytes:
    with home.pinned(path) as (fd, _):
        name = f"/proc/self/fd/{fd}"
        try:
            found = {os.fsencode(each): os.getxattr(name, each) for each in os.listxattr(name)}
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENODATA):
                return b""
            raise
    return msgspec.msgpack.encode(found) if found else b""


def dress_at(home: Beneath, path: bytes, entry: Entry) -> list[Skipped]:
    """``dress`` whatever is there, following no symlink."""
    if entry.kind == "link":
        folder, name = home.at(path)
        missed = []
        try:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        except PermissionError as error:
            missed.append(Skipped(entry.path, f"owner: {error.strerror}"))
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)
        return missed
    with home.pinned(path) as (fd, found):
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, "a symlink is in its place", os.fsdecode(path))
        return [Skipped(entry.path, why) for why in dress(f"/proc/self/fd/{fd}", entry)]


class Swap:
    """Does a journal's steps, or takes them back. Both may be repeated."""

    def __init__(self, home: Beneath, slots: Beneath, journal: Journal) -> None:
        self._home = home
        self._slots = slots
        self._steps = journal.steps
        self.skipped: list[Skipped] = []

    def apply(self) -> None:
        """Every step that was not done yet."""
        for step in self._steps:
            crashpoints.point(STEP)
            if step.op == "put":
                self._put(step)
            elif step.op == "aside":
                self._aside(step)
            elif step.op == "open":
                self._open(step)
            elif step.entry is not None:
                self._dress(step.path, step.entry)

    def undo(self) -> None:
        """Every step that was done, backwards; then the metadata as it was."""
        for step in reversed(self._steps):
            crashpoints.point(UNDO)
            if step.op == "put":
                self._take(step)
            elif step.op == "aside" and self._slots.lstat(step.slot) is not None:
                self._slots.move(step.slot, self._home, step.path)
        for step in self._steps:
            if step.op in ("meta", "settle", "open") and step.was is not None:
                self._dress(step.path, step.was)

    def _dress(self, path: bytes, entry: Entry) -> None:
        if self._home.lstat(path) is not None:
            self.skipped += dress_at(self._home, path, entry)

    def _open(self, step: Step) -> None:
        with self._home.pinned(step.path) as (fd, found):
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(found.st_mode) | 0o700)

    def _put(self, step: Step) -> None:
        there = self._home.lstat(step.path)
        if there is not None and there.st_ino == step.ino:
            return
        if there is None:
            self._slots.move(step.slot, self._home, step.path)
        else:
            self._slots.exchange(step.slot, self._home, step.path)

    def _take(self, step: Step) -> None:
        there = self._home.lstat(step.path)
        if there is None or there.st_ino != step.ino:
            return
        if self._slots.lstat(step.slot) is None:
            self._home.move(step.path, self._slots, step.slot)
        else:
            self._home.exchange(step.path, self._slots, step.slot)

    def _aside(self, step: Step) -> None:
        there = self._home.lstat(step.path)
        if there is None or self._slots.lstat(step.slot) is not None:
            return
        if is_folder(there) and self._home.names(step.path):
            self.skipped.append(Skipped(step.path, STAYS))
            return
        self._home.move(step.path, self._slots, step.slot)
