"""Files laid down from their chunks: in parallel, packs read in order, holes kept."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Protocol

import msgspec

from relit.errors import VolumeDamaged
from relit.manifest import ID_BYTES, Entry, Skipped
from relit.volumes.beneath import Beneath

BLOCK = 16384  # of database files
PATCHED = 1 << 20  # from this size on a database's unchanged blocks are copied from the file that is there
_BATCH = 256  # chunks of one file asked for at once
_GROUP = 96  # small files written in one turn of a thread
_FICLONE = 0x40049409
_XATTRS = msgspec.msgpack.Decoder(dict[bytes, bytes])


class Reader(Protocol):
    """Chunks by id (``relit.volumes.reader.Chunks``)."""

    async def read(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """All of them, verified."""
        ...

    def stream(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """Each distinct one once, in the order in which packs hold them."""
        ...


class Job(msgspec.Struct):
    """A file to lay at ``path``; ``base`` is an open older version whose chunk ids are ``base_ids``."""

    path: bytes
    entry: Entry
    ids: bytes
    base: int | None = None
    base_ids: bytes = b""


def ranges(size: int, holes: bytes) -> list[tuple[int, int]]:
    """Where a file has data: (offset, length). VolumeDamaged when its holes are not in order or outside of it."""
    found, at = [], 0
    for index in range(0, len(holes), 16):
        start = int.from_bytes(holes[index : index + 8], "little")
        length = int.from_bytes(holes[index + 8 : index + 16], "little")
        if start < at or start + length > size or len(holes) % 16:
            raise VolumeDamaged("a file's holes do not fit into it", fix="relit volume verify")
        if start > at:
            found.append((at, start - at))
        at = start + length
    if at < size:
        found.append((at, size - at))
    return found


class Pour:
    """Writes a file's content, as it comes, into its data ranges."""

    def __init__(self, fd: int, entry: Entry) -> None:
        self._fd = fd
        self._entry = entry
        self._ranges = ranges(entry.size, entry.holes)
        self._ranges.reverse()

    def feed(self, data: bytes) -> None:
        """The next piece."""
        view = memoryview(data)
        while view:
            if not self._ranges:
                raise self._wrong("more")
            offset, length = self._ranges.pop()
            part = view[:length]
            write_at(self._fd, part, offset)
            if len(part) < length:
                self._ranges.append((offset + len(part), length - len(part)))
            view = view[len(part) :]

    def end(self) -> None:
        """All was fed: VolumeDamaged when it was too little."""
        if self._ranges:
            raise self._wrong("less")
        if self._entry.holes:
            os.ftruncate(self._fd, self._entry.size)

    def _wrong(self, what: str) -> VolumeDamaged:
        shown = os.fsdecode(self._entry.path)
        return VolumeDamaged(
            f"the chunks of {shown!r} hold {what} than its size of {self._entry.size}", fix="relit volume verify"
        )


def write_at(fd: int, data: memoryview | bytes, offset: int) -> None:
    """All of it."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def dress(path: str | int, entry: Entry) -> list[str]:
    """Give a file or folder its owner, attributes, mode and times. Answers what the system did not permit.

    The owner first (a change takes set-id bits and capabilities away), the times last.
    """
    missed = []
    now = os.stat(path)
    if (now.st_uid, now.st_gid) != (entry.uid, entry.gid):
        try:
            os.chown(path, entry.uid, entry.gid)
        except PermissionError as error:
            missed.append(f"owner: {error.strerror}")
    missed += set_xattrs(path, entry.xattrs)
    if stat.S_IMODE(os.stat(path).st_mode) != entry.mode & 0o7777:
        os.chmod(path, entry.mode & 0o7777)
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
    return missed


def set_xattrs(path: str | int, packed: bytes) -> list[str]:
    """Exactly these extended attributes; what is not permitted is answered."""
    wanted = _XATTRS.decode(packed) if packed else {}
    missed = []
    try:
        there = {os.fsencode(name) for name in os.listxattr(path)}
    except OSError:  # a filesystem without attributes
        there = set()
    for name in (*there, *wanted):
        try:
            if name in wanted:
                os.setxattr(path, name, wanted[name])
            elif name != b"security.selinux":
                os.removexattr(path, name)
        except OSError as error:
            missed.append(f"attribute {os.fsdecode(name)}: {error.strerror}")
    return missed


class Layer:
    """Lays files below folders opened once per thread. ``skipped`` collects what could not be set."""

    def __init__(self, chunks: Reader, open_root: Callable[[], Beneath], *, sync: bool = False) -> None:
        self._chunks = chunks
        self._roots = [open_root(), open_root()]
        self._free: asyncio.Queue[Beneath] = asyncio.Queue()
        self._sync = sync
        self.written = 0
        self.skipped: list[Skipped] = []
        for root in self._roots:
            self._free.put_nowait(root)

    def close(self) -> None:
        """Safe twice."""
        for root in self._roots:
            root.close()

    async def lay(self, jobs: Sequence[Job]) -> None:
        """All of them, durable only when the caller syncs."""
        single: dict[bytes, list[Job]] = {}
        for job in jobs:
            if len(job.ids) == ID_BYTES:
                single.setdefault(job.ids, []).append(job)
        await self._now([(job, b"") for job in jobs if not job.ids])
        if single:
            await self._small(single)
        for job in jobs:
            if len(job.ids) > ID_BYTES:
                await self._large(job)

    async def _small(self, single: dict[bytes, list[Job]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            group: list[tuple[Job, bytes]] = []
            async for name, data in self._chunks.stream(list(single)):
                group += [(job, data) for job in single.pop(name)]
                if len(group) >= _GROUP:
                    root = await self._free.get()
                    tasks.create_task(self._turn(root, group))
                    group = []
            tasks.create_task(self._now(group))
        if single:
            lost = os.fsdecode(next(iter(single.values()))[0].path)
            raise VolumeDamaged(f"the content of {lost!r} was not found", fix="relit volume verify")

    async def _now(self, group: list[tuple[Job, bytes]]) -> None:
        if group:
            await self._turn(await self._free.get(), group)

    async def _turn(self, root: Beneath, group: list[tuple[Job, bytes]]) -> None:
        try:
            missed = await asyncio.to_thread(self._write, root, group)
        finally:
            self._free.put_nowait(root)
        self.skipped += missed
        self.written += sum(len(data) for _, data in group)

    def _write(self, root: Beneath, group: list[tuple[Job, bytes]]) -> list[Skipped]:
        missed: list[Skipped] = []
        with ExitStack() as files:
            made = []
            for job, data in group:
                fd = root.create(job.path)
                files.callback(os.close, fd)
                made.append(fd)
                pour = Pour(fd, job.entry)
                pour.feed(data)
                pour.end()
                missed += [Skipped(job.entry.path, why) for why in dress(fd, job.entry)]
            for fd in made if self._sync else ():  # the first one's wait brings most of the others to the disk, too
                os.fsync(fd)
        return missed

    def _finish(self, fd: int, job: Job) -> list[Skipped]:
        missed = [Skipped(job.entry.path, why) for why in dress(fd, job.entry)]
        if self._sync:
            os.fsync(fd)
        return missed

    async def _large(self, job: Job) -> None:
        fd = self._roots[0].create(job.path)
        try:
            if job.base is None:
                await self._pour(fd, job)
            else:
                await self._patch(fd, job, job.base)
            self.skipped += await asyncio.to_thread(self._finish, fd, job)
        finally:
            os.close(fd)

    async def _pour(self, fd: int, job: Job) -> None:
        """A batch is written while the next one is read."""
        pour = Pour(fd, job.entry)
        ids = list(split(job.ids))
        async with asyncio.TaskGroup() as tasks:
            writing: asyncio.Task[None] | None = None
            for at in range(0, len(ids), _BATCH):
                batch = ids[at : at + _BATCH]
                found = await self._chunks.read(batch)
                if writing is not None:
                    await writing
                parts = [found[each] for each in batch]
                writing = tasks.create_task(asyncio.to_thread(_feed, pour, parts))
                self.written += sum(map(len, parts))
        pour.end()

    async def _patch(self, fd: int, job: Job, base: int) -> None:
        await asyncio.to_thread(clone, base, fd, job.entry.size)
        old = list(split(job.base_ids))
        todo = [(no, each) for no, each in enumerate(split(job.ids)) if no >= len(old) or old[no] != each]
        last = -(-job.entry.size // BLOCK) - 1
        for at in range(0, len(todo), _BATCH):
            batch = todo[at : at + _BATCH]
            found = await self._chunks.read([each for _, each in batch])
            for no, each in batch:
                if len(found[each]) != (BLOCK if no < last else job.entry.size - last * BLOCK):
                    raise VolumeDamaged(f"a block of {os.fsdecode(job.entry.path)!r} has the wrong size")
            await asyncio.to_thread(_blocks, fd, [(no, found[each]) for no, each in batch])
            self.written += sum(len(found[each]) for _, each in batch)


def _feed(pour: Pour, parts: list[bytes]) -> None:
    for part in parts:
        pour.feed(part)


def _blocks(fd: int, blocks: list[tuple[int, bytes]]) -> None:
    for no, data in blocks:
        write_at(fd, data, no * BLOCK)


def split(ids: bytes) -> Iterator[bytes]:
    """Chunk ids one by one."""
    return (ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES))


def clone(base: int, fd: int, size: int) -> None:
    """Make ``fd`` the first ``size`` bytes of ``base``: shared extents where the filesystem has them."""
    try:
        fcntl.ioctl(fd, _FICLONE, base)
    except OSError:  # ext4, tmpfs: copied inside the kernel
        left = min(size, os.fstat(base).st_size)
        while left > 0 and (done := os.copy_file_range(base, fd, left)):
            left -= done
    os.ftruncate(fd, size)


def in_blocks(entry: Entry) -> bool:
    """Whether a file was cut into database blocks: content-defined chunks are never that many."""
    return entry.size >= PATCHED and not entry.holes and entry.count == -(-entry.size // BLOCK)
