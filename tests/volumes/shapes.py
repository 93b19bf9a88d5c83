"""All that a snapshot must keep of a tree, as a value: two trees are the same when their shapes are equal."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

Shape = dict[bytes, tuple[object, ...]]


def shape(root: Path) -> Shape:
    """Every path below, the root itself as ``b""``: kind, mode, owner, times, attributes, content, links, holes."""
    found: Shape = {}
    names: dict[int, bytes] = {}
    for path in sorted(_paths(os.fsencode(root))):
        full = os.path.join(os.fsencode(root), path) if path else os.fsencode(root)
        now = os.lstat(full)
        if not (stat.S_ISREG(now.st_mode) or stat.S_ISDIR(now.st_mode) or stat.S_ISLNK(now.st_mode)):
            continue
        first = names.setdefault(now.st_ino, path) if stat.S_ISREG(now.st_mode) else path
        found[path] = (stat.S_IFMT(now.st_mode), *_facts(now), _xattrs(full), *_content(full, now), first)
    return found


def difference(one: Shape, other: Shape) -> dict[bytes, tuple[object, object]]:
    """The paths that differ, for messages that can be read."""
    return {
        path: (one.get(path), other.get(path)) for path in one.keys() | other.keys() if one.get(path) != other.get(path)
    }


def _paths(root: bytes) -> Iterator[bytes]:
    yield b""
    for folder, folders, files in os.walk(root):
        base = os.path.relpath(folder, root)
        for name in (*folders, *files):
            yield name if base == b"." else base + b"/" + name


def _facts(now: os.stat_result) -> tuple[int, ...]:
    return stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid, now.st_mtime_ns


def _xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    if stat.S_ISLNK(os.lstat(path).st_mode):
        return ()
    return tuple((name, os.getxattr(path, name)) for name in sorted(os.listxattr(path)))


def _content(path: bytes, now: os.stat_result) -> tuple[object, ...]:
    if stat.S_ISLNK(now.st_mode):
        return (os.readlink(path),)
    if stat.S_ISDIR(now.st_mode):
        return ()
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "blake2b").hexdigest()
        return now.st_size, digest, tuple(holes(file.fileno(), now.st_size))


def holes(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of a file's holes."""
    at = 0
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole from here on
            data = size
        if data > at:
            yield at, data - at
        at = os.lseek(fd, data, os.SEEK_HOLE) if data < size else size
