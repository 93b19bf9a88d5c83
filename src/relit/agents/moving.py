"""A folder copied as it is: modes, times, owners, links; compared afterwards. Blocking."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from relit.agents.leftovers import matches

_SPARE = 128 << 20  # bytes that stay free


class Stopped(Exception):
    """The caller wants an end."""


class Copied(msgspec.Struct, kw_only=True):
    """What was copied. ``outside``: links that lead out of the folder, kept as links; ``left``: what was not taken."""

    files: int = 0
    bytes: int = 0
    outside: list[str] = []
    left: list[str] = []


class Room(msgspec.Struct, frozen=True):
    """What a copy needs and what is free, in bytes."""

    needed: int
    free: int

    @property
    def enough(self) -> bool:
        return self.free - self.needed > _SPARE


def room(source: Path, skip: Sequence[str], into: Path) -> Room:
    """Whether it fits where ``into`` is to be. OSError."""
    needed = sum(each.stat(follow_symlinks=False).st_blocks * 512 for each in entries(source, skip) if each.is_file())
    place = next(path for path in (into, *into.parents) if path.exists())
    return Room(needed, shutil.disk_usage(place).free)


Places = Mapping[Path, Path]
"""Folders that come along, and where each goes."""


def copy(
    source: Path, into: Path, skip: Sequence[str], stopped: Callable[[], bool] = lambda: False,
    places: Places | None = None,
) -> Copied:  # fmt: skip
    """Copy what is in ``source`` but for ``skip`` (patterns of paths below it). ``places``: what else comes along, for
    links that lead there. OSError; ``Stopped``."""
    done, places = Copied(), {**(places or {}), source: into}
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    folders: list[tuple[Path, Path]] = [(source, into)]
    for entry in entries(source, skip, done.left):
        if stopped():
            raise Stopped
        inside = os.path.relpath(entry.path, source)
        target = into / inside
        if entry.is_dir(follow_symlinks=False):
            target.mkdir(mode=0o700, exist_ok=True)
            folders.append((Path(entry.path), target))
        elif entry.is_symlink():
            _link(entry, source, into, places, done)
        elif entry.is_file(follow_symlinks=False):
            shutil.copyfile(entry.path, target)
            _dress(Path(entry.path), target)
            done.files += 1
            done.bytes += entry.stat(follow_symlinks=False).st_size
        else:
            done.left.append(f"{inside} (no plain file)")
    for old, new in reversed(folders):  # last: what is made in a folder changes its time
        _dress(old, new)
    return done


def _link(entry: os.DirEntry[str], source: Path, into: Path, places: Places, done: Copied) -> None:
    """One that leads to something that comes along leads to the copy of it."""
    inside = os.path.relpath(entry.path, source)
    target, leads = into / inside, os.readlink(entry.path)
    real = os.path.normpath(os.path.join(os.path.dirname(entry.path), leads))
    copied = _copied(real, places) or _copied(os.path.realpath(real), places)  # it may go by another name of it
    if copied is None:
        done.outside.append(f"{inside} -> {leads}")
    elif os.path.isabs(leads) or os.path.normpath(target.parent / leads) != str(copied):
        leads = os.path.relpath(copied, target.parent)
    os.symlink(leads, target)
    _dress(Path(entry.path), target)


def _copied(path: str, places: Places) -> Path | None:
    """Where that is in the copy; ``None``: it does not come along."""
    for folder, into in sorted(places.items(), key=lambda each: len(each[0].parts), reverse=True):  # the innermost
        if Path(path).is_relative_to(folder):
            return into / Path(path).relative_to(folder)
    return None


def _dress(old: Path, new: Path) -> None:
    """Mode, times, attributes; the owner where we may."""
    shutil.copystat(old, new, follow_symlinks=False)
    if os.geteuid() == 0:
        found = os.lstat(old)
        os.chown(new, found.st_uid, found.st_gid, follow_symlinks=False)


def differences(source: Path, copied: Path, skip: Sequence[str]) -> list[str]:
    """What is not in the copy as it is in the source now, in words; the first few."""
    found: list[str] = []
    for entry in entries(source, skip):
        inside = os.path.relpath(entry.path, source)
        if not (entry.is_dir(follow_symlinks=False) or entry.is_symlink() or entry.is_file(follow_symlinks=False)):
            continue
        if said := _differs(entry.stat(follow_symlinks=False), copied / inside):
            found.append(f"{inside}: {said}")
    return found[:10]


Stamps = Mapping[str, tuple[int, ...]]
"""Of all that is in a folder: what no write to it leaves as it was. (A time of change cannot be set by hand.)"""


def stamps(folder: Path) -> Stamps:
    """As they are now. OSError."""
    found = {}
    for entry in entries(folder, []):
        now = entry.stat(follow_symlinks=False)
        found[os.path.relpath(entry.path, folder)] = (now.st_mode, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    return found


def changed(was: Stamps, now: Stamps) -> list[str]:
    """What is no longer as it was, in words; the first few."""
    found = [f"{each} is new" for each in now.keys() - was.keys()]
    found += [f"{each} is gone" for each in was.keys() - now.keys()]
    found += [f"{each} was written to" for each in was.keys() & now.keys() if was[each] != now[each]]
    return sorted(found)[:10]


def remove(folder: Path, patterns: Sequence[str]) -> None:
    """What the patterns name, with what is in it. OSError."""
    for entry in list(entries(folder, [])):
        inside = os.path.relpath(entry.path, folder)
        if any(_skipped(inside, entry, pattern) for pattern in patterns) and os.path.lexists(entry.path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


def _differs(was: os.stat_result, target: Path) -> str:
    try:
        now = os.lstat(target)
    except FileNotFoundError:
        return "is missing"
    if stat.S_IFMT(was.st_mode) != stat.S_IFMT(now.st_mode):
        return "is something else"
    if stat.S_ISREG(was.st_mode) and (was.st_size, was.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
        return f"has {now.st_size} bytes instead of {was.st_size}, or was written meanwhile"
    return ""


def entries(folder: Path, skip: Sequence[str], left: list[str] | None = None) -> Iterator[os.DirEntry[str]]:
    """All below, folders before what is in them; nothing that ``skip`` names."""
    todo = [str(folder)]
    while todo:
        for entry in sorted(os.scandir(todo.pop()), key=lambda each: each.name):
            inside = os.path.relpath(entry.path, folder)
            if any(_skipped(inside, entry, pattern) for pattern in skip):
                if left is not None:
                    left.append(inside)
                continue
            yield entry
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)


def _skipped(inside: str, entry: os.DirEntry[str], pattern: str) -> bool:
    """A pattern that ends with ``/`` is a folder's."""
    if pattern.endswith("/"):
        return entry.is_dir(follow_symlinks=False) and matches(inside, pattern[:-1])
    return matches(inside, pattern)
