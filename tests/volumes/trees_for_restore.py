"""Trees on disk as entries, and chunks in a dict: what restore's tests need of snapshots."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from relit.manifest import SEGMENT, Entry, Segment
from relit.volumes.fetched import Part
from relit.volumes.writing import Data

Tree = tuple[list[Entry], list[Segment]]


class Fetched:
    def __init__(self, chunks: dict[bytes, bytes]) -> None:
        self._chunks = chunks
        self.parts: list[Part] = []
        self.sizes = {id: len(data) for id, data in chunks.items()}

    def open(self) -> dict[bytes, Data]:
        return dict(self._chunks)


class DictChunks:
    """Chunks in memory."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def put(self, data: bytes) -> bytes:
        name = hashlib.blake2b(data, digest_size=16).digest()
        self.kept[name] = data
        return name

    async def fetch(self, ids: Sequence[bytes]) -> Fetched:
        return Fetched({each: self.kept[each] for each in ids})

    async def batches(self, ids: Sequence[bytes]) -> AsyncIterator[Fetched]:
        for each in sorted(set(ids)):
            yield Fetched({each: self.kept[each]})


def take(home: Path, chunks: DictChunks) -> Tree:
    """The home's tree, its contents kept in ``chunks``."""
    entries: list[Entry] = []
    segments: list[Segment] = []
    names: dict[int, bytes] = {}
    found = [b""]
    for folder, folders, files in os.walk(os.fsencode(home)):
        base = os.path.relpath(folder, os.fsencode(home))
        found += [name if base == b"." else base + b"/" + name for name in (*folders, *files)]
    for path in sorted(found):
        entry, ids = _entry(home, path, names, chunks)
        entries.append(entry)
        if entry.count > SEGMENT:
            size = SEGMENT * 16
            segments += [Segment(path, no, ids[no * size : (no + 1) * size]) for no in range(-(-len(ids) // size))]
    return entries, segments


def _entry(home: Path, path: bytes, names: dict[int, bytes], chunks: DictChunks) -> tuple[Entry, bytes]:
    full = os.path.join(os.fsencode(home), path) if path else os.fsencode(home)
    now = os.lstat(full)
    common = {
        "path": path,
        "mode": stat.S_IMODE(now.st_mode),
        "uid": now.st_uid,
        "gid": now.st_gid,
        "mtime_ns": now.st_mtime_ns,
        "ino": now.st_ino,
        "ctime_ns": now.st_ctime_ns,
    }
    if stat.S_ISDIR(now.st_mode):
        return Entry(kind="folder", **common), b""
    if stat.S_ISLNK(now.st_mode):
        return Entry(kind="link", target=os.readlink(full), **common), b""
    if now.st_ino in names:
        return Entry(kind="file", hard=names[now.st_ino], **common), b""
    names[now.st_ino] = path
    with open(full, "rb") as file:
        data = file.read()
    block = 16384 if data.startswith(b"SQLite format 3") else 50_000
    ids = b"".join(chunks.put(data[at : at + block]) for at in range(0, len(data), block))
    count = len(ids) // 16
    parts = ids if count <= SEGMENT else b""
    return Entry(kind="file", size=len(data), count=count, parts=parts, **common), ids


def shape(home: Path) -> list[tuple[object, ...]]:
    """Everything about a tree that a restore must bring back."""
    entries, segments = take(home, DictChunks())
    plain = [(e.path, e.kind, e.mode, e.uid, e.gid, e.mtime_ns, e.size, e.parts, e.target, e.hard) for e in entries]
    return [*plain, *((s.path, s.no, s.ids) for s in segments)]
