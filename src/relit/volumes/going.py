"""A way back: what a restore would do, or did."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from relit.errors import VolumeError
from relit.manifest import Entry, Skipped, Snapshot
from relit.volumes.base import Catalog
from relit.volumes.beneath import Beneath, is_folder
from relit.volumes.between import Trees
from relit.volumes.plan import Action, contents, plan, within
from relit.volumes.restore import Restored
from relit.volumes.scan import AS_BEFORE
from relit.volumes.swap import STAYS


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A way back that somebody wants. ``exact``: what came since at and below ``paths`` goes. ``full``: the whole home
    is laid anew, and what is there goes, with what snapshots leave out."""

    number: int
    paths: Collection[bytes] = ()
    exact: bool = False
    full: bool = False


class Going(msgspec.Struct, frozen=True, kw_only=True):
    """``before``: the snapshot that undoes it; ``after``: the one of it. ``skipped``: what is not as it was then."""

    to: Snapshot
    before: Snapshot
    after: Snapshot | None = None
    written: list[Entry]
    removed: list[bytes]
    adjusted: list[Entry]
    skipped: list[Skipped] = []
    done: Restored | None = None


def going(to: Snapshot, before: Snapshot, trees: Trees, asked: Asked) -> Going:
    """What a restore from ``before`` to ``to`` has to do. Pure."""
    actions = plan(
        trees.current,
        trees.wanted,
        now=contents(trees.current, trees.now),
        then=contents(trees.wanted, trees.then),
        paths=asked.paths or None,
        exact=asked.exact,
    )
    stays = {entry.path for entry in trees.wanted}
    return Going(
        to=to,
        before=before,
        written=[action.entry for action in actions if action.op in ("folder", "write", "link", "hard")],
        removed=[action.entry.path for action in actions if action.op == "aside" and action.entry.path not in stays],
        adjusted=[action.entry for action in actions if action.op == "meta" or _folder_changes(action)],
    )


def _folder_changes(action: Action) -> bool:
    """Whether a folder that is there gets another mode, owner or attributes: its time is that of what is in it."""
    was, entry = action.was, action.entry
    if action.op != "settle" or was is None or was.kind != "folder":
        return False
    return (was.mode, was.uid, was.gid, was.xattrs) != (entry.mode, entry.uid, entry.gid, entry.xattrs)


async def lost(catalog: Catalog, agent: str, asked: Asked) -> Going:
    """What a restore of a home that is gone has to do."""
    volume = await catalog.volume(agent)
    entries = await catalog.tree(volume.id, asked.number)
    return Going(
        to=await catalog.snapshot(volume.id, asked.number),
        before=await catalog.snapshot(volume.id, volume.newest),
        written=[each for each in entries if each.path and (not asked.paths or within(each.path, asked.paths))],
        removed=[],
        adjusted=[],
    )


def without(planned: Going, skipped: list[Skipped], done: Restored | None = None) -> Going:
    """The same, when ``skipped`` could not be made what it was: folders that stay are not removed. Pure."""
    stays = {each.path for each in skipped if each.why == STAYS}
    removed = [path for path in planned.removed if path not in stays]
    return msgspec.structs.replace(planned, removed=removed, skipped=skipped, done=done)


def unread(taken: Snapshot, paths: Collection[bytes] = ()) -> list[Skipped]:
    """What of the home, or at and below ``paths``, could not be read. Pure."""
    closed = [each for each in taken.skipped if each.why.endswith(AS_BEFORE)]
    return [each for each in closed if not paths or within(each.path, paths)]


def open_up(home: Path, closed: Iterable[Skipped]) -> bool:
    """Let ourselves read what is ours. Answers whether anything is open now that was not."""
    opened = False
    with Beneath(home) as root:
        for each in closed:
            try:
                with root.pinned(each.path) as (fd, found):
                    mode = stat.S_IMODE(found.st_mode)
                    wanted = mode | (0o700 if is_folder(found) else 0o600)
                    if mode != wanted and not stat.S_ISLNK(found.st_mode):
                        os.chmod(f"/proc/self/fd/{fd}", wanted)
                        opened = True
            except (OSError, VolumeError):  # not ours, or not there any more: it is told as what it was skipped for
                continue
    return opened


def staying(home: Path, removed: Collection[bytes]) -> list[Skipped]:
    """The folders that would stay, since they hold what snapshots leave out."""
    gone = {*removed, *(path + b"-shm" for path in removed)}  # the index goes with its database
    stays: list[Skipped] = []
    with Beneath(home) as root:
        for path in sorted(removed, key=lambda path: -path.count(b"/")):
            if is_folder(root.lstat(path)) and any(path + b"/" + name not in gone for name in root.names(path)):
                gone.remove(path)
                stays.append(Skipped(path, STAYS))
    return stays
