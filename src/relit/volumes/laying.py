"""Files laid down from their chunks: in parallel, packs read in order, holes kept."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Protocol

import msgspec

from relit.errors import VolumeDamaged
from relit.lib.service import finished
from relit.manifest import ID_BYTES, Entry, Skipped
from relit.volumes.beneath import Beneath

BLOCK = 16384  # of database files
PATCHED = 1 << 20  # from this size on a database's unchanged blocks are copied from the file that is there
_BATCH = 256  # chunks of one file asked for at once
_TOGETHER = 4 << 20  # bytes of files of several chunks that one turn of a thread writes
_GROUP = 96  # files that are open at a time
_THREADS = 2  # what the interpreter's lock leaves to more is little
_VECTORS = 512  # pieces in one system call
_FICLONE = 0x40049409
_XATTRS = msgspec.msgpack.Decoder(dict[bytes, bytes])


Data = bytes | memoryview
Laid = tuple[int, list[Skipped]]  # bytes written, and what was not permitted


class Fetched(Protocol):
    """Chunks that are at hand. ``sizes``: bytes by id."""

    @property
    def sizes(self) -> Mapping[bytes, int]: ...

    def open(self) -> dict[bytes, Data]:
        """By id, verified. Blocking; once."""
        ...


class Reader(Protocol):
    """Chunks by id (``relit.volumes.reader.Chunks``)."""

    async def fetch(self, ids: Sequence[bytes]) -> Fetched:
        """All of them."""
        ...

    def batches(self, ids: Sequence[bytes]) -> AsyncIterator[Fetched]:
        """Each distinct one once, in the order in which packs hold them, so many at a time as memory should hold."""
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
    """Writes a file's content into its data ranges, piece by piece in any order."""

    def __init__(self, fd: int, entry: Entry) -> None:
        self._fd = fd
        self._entry = entry
        self._ranges = ranges(entry.size, entry.holes)
        self._size = sum(length for _, length in self._ranges)

    def write(self, at: int, parts: Sequence[Data]) -> None:
        """These pieces of the content, from its byte ``at`` on; holes do not count."""
        end = at + sum(map(len, parts))
        if end > self._size:
            raise self._wrong("more")
        for offset, length in self._ranges:
            if 0 <= at < length and end <= length:  # all of it, as nearly always
                write_all(self._fd, parts, offset + at)
                return
            if at < length:
                parts = self._first(parts, offset + max(at, 0), length - max(at, 0))
            at, end = at - length, end - length

    def _first(self, parts: Sequence[Data], offset: int, room: int) -> list[Data]:
        """Write what fits; answers what is left."""
        left: list[Data] = []
        for part in parts:
            view = memoryview(part)
            if room > 0:
                write_all(self._fd, [view[:room]], offset)
            left += [view[room:]] if len(view) > room else []
            offset, room = offset + min(len(view), room), max(0, room - len(view))
        return left

    def end(self, written: int) -> None:
        """So much was written in all: VolumeDamaged when it was too little."""
        if written < self._size:
            raise self._wrong("less")
        if self._entry.holes:
            os.ftruncate(self._fd, self._entry.size)

    def _wrong(self, what: str) -> VolumeDamaged:
        shown = os.fsdecode(self._entry.path)
        return VolumeDamaged(
            f"the chunks of {shown!r} hold {what} than its size of {self._entry.size}", fix="relit volume verify"
        )


def write_all(fd: int, parts: Sequence[Data], offset: int) -> None:
    """One after the other, with few system calls."""
    for first in range(0, len(parts), _VECTORS):
        some = parts[first : first + _VECTORS]
        size = sum(map(len, some))
        done = os.pwritev(fd, some, offset)
        while done < size:  # a signal, or no space: then the next one raises
            rest = b"".join(some)[done:]
            done += os.pwrite(fd, rest, offset + done)
        offset += size


def dress(path: str | int, entry: Entry) -> list[str]:
    """Give a file or folder its owner, attributes, mode and times. Answers what the system did not permit.

    The owner first (a change takes set-id bits and capabilities away), the times last.
    """
    missed = []
    now, mode = os.stat(path), entry.mode & 0o7777
    moved = (now.st_uid, now.st_gid) != (entry.uid, entry.gid)
    if moved:
        try:
            os.chown(path, entry.uid, entry.gid)
        except PermissionError as error:
            missed.append(f"owner: {error.strerror}")
    missed += set_xattrs(path, entry.xattrs)
    if moved or entry.xattrs or stat.S_IMODE(now.st_mode) != mode:
        os.chmod(path, mode)
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
        self._roots = [open_root() for _ in range(_THREADS)]
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
        """All of them, durable only when the caller syncs. Two threads open chunks and write files, while the next
        chunks are fetched."""
        async with asyncio.TaskGroup() as tasks:
            if empty := [job for job in jobs if not job.ids]:
                await self._begin(tasks, partial(self._write, [(job, []) for job in empty]))
            await self._single(tasks, [job for job in jobs if len(job.ids) == ID_BYTES])
            for group in _groups([job for job in jobs if _few(job)]):
                fetched = await self._chunks.fetch([id for job in group for id in split(job.ids)])
                await self._begin(tasks, partial(self._several, fetched, group))
            turns = asyncio.Semaphore(_THREADS)
            for job in jobs:
                if len(job.ids) > ID_BYTES and not _few(job):
                    await turns.acquire()
                    tasks.create_task(self._large(job)).add_done_callback(lambda _: turns.release())

    async def _begin(self, tasks: asyncio.TaskGroup, work: Callable[[Beneath], Laid]) -> asyncio.Task[None]:
        """Have a thread do that, as soon as one is free."""
        root = await self._free.get()
        return tasks.create_task(self._do(root, work))

    async def _do(self, root: Beneath, work: Callable[[Beneath], Laid]) -> None:
        try:
            written, missed = await finished(asyncio.to_thread(work, root))
        finally:
            self._free.put_nowait(root)
        self.written += written
        self.skipped += missed

    # --- small files -------------------------------------------------------------------------------------------

    async def _single(self, tasks: asyncio.TaskGroup, jobs: Sequence[Job]) -> None:
        """Files of one chunk, in the order in which packs hold them."""
        by_id: dict[bytes, list[Job]] = {}
        for job in jobs:
            by_id.setdefault(job.ids, []).append(job)
        async for fetched in self._chunks.batches(list(by_id)):
            await self._begin(tasks, partial(self._each, fetched, by_id))

    def _each(self, fetched: Fetched, by_id: Mapping[bytes, list[Job]], root: Beneath) -> Laid:
        return self._write([(job, [data]) for id, data in fetched.open().items() for job in by_id[id]], root)

    def _several(self, fetched: Fetched, jobs: Sequence[Job], root: Beneath) -> Laid:
        found = fetched.open()
        return self._write([(job, [found[id] for id in split(job.ids)]) for job in jobs], root)

    def _write(self, files: Sequence[tuple[Job, Sequence[Data]]], root: Beneath) -> Laid:
        written, missed = 0, list[Skipped]()
        for at in range(0, len(files), _GROUP):
            with ExitStack() as opened:
                made = []
                for job, parts in files[at : at + _GROUP]:
                    fd = root.create(job.path)
                    opened.callback(os.close, fd)
                    made.append(fd)
                    size, pour = sum(map(len, parts)), Pour(fd, job.entry)
                    pour.write(0, parts)
                    pour.end(size)
                    missed += [Skipped(job.entry.path, why) for why in dress(fd, job.entry)]
                    written += size
                for fd in made if self._sync else ():  # the first one's wait brings most of the others to the disk, too
                    os.fsync(fd)
        return written, missed

    # --- large ones --------------------------------------------------------------------------------------------

    async def _large(self, job: Job) -> None:
        fd = self._roots[0].create(job.path)
        try:
            if job.base is None:
                await self._pour(fd, job)
            else:
                await self._patch(fd, job, job.base)
            self.skipped += await finished(asyncio.to_thread(self._finish, fd, job))
        finally:
            os.close(fd)

    def _finish(self, fd: int, job: Job) -> list[Skipped]:
        missed = [Skipped(job.entry.path, why) for why in dress(fd, job.entry)]
        if self._sync:
            os.fsync(fd)
        return missed

    async def _pour(self, fd: int, job: Job) -> None:
        pour, at = Pour(fd, job.entry), 0
        ids = list(split(job.ids))
        async with asyncio.TaskGroup() as tasks:
            for first in range(0, len(ids), _BATCH):
                batch = ids[first : first + _BATCH]
                fetched = await self._chunks.fetch(batch)
                await self._begin(tasks, partial(_poured, pour, at, fetched, batch))
                at += sum(fetched.sizes[id] for id in batch)
        pour.end(at)

    async def _patch(self, fd: int, job: Job, base: int) -> None:
        await finished(asyncio.to_thread(clone, base, fd, job.entry.size))
        old = list(split(job.base_ids))
        todo = [(no, each) for no, each in enumerate(split(job.ids)) if no >= len(old) or old[no] != each]
        async with asyncio.TaskGroup() as tasks:
            for at in range(0, len(todo), _BATCH):
                batch = todo[at : at + _BATCH]
                fetched = await self._chunks.fetch([each for _, each in batch])
                await self._begin(tasks, partial(_patched, fd, job.entry, fetched, batch))


def _few(job: Job) -> bool:
    """Whether a file of several chunks is laid with others of its kind."""
    return job.base is None and 1 < len(job.ids) // ID_BYTES <= _BATCH and job.entry.size <= _TOGETHER


def _groups(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    group: list[Job] = []
    size = 0
    for job in jobs:
        if group and size + job.entry.size > _TOGETHER:
            yield group
            group, size = [], 0
        group.append(job)
        size += job.entry.size
    if group:
        yield group


def _poured(pour: Pour, at: int, fetched: Fetched, ids: Sequence[bytes], _: Beneath) -> Laid:
    found = fetched.open()
    parts = [found[id] for id in ids]
    pour.write(at, parts)
    return sum(map(len, parts)), []


def _patched(fd: int, entry: Entry, fetched: Fetched, blocks: Sequence[tuple[int, bytes]], _: Beneath) -> Laid:
    found = fetched.open()
    last = -(-entry.size // BLOCK) - 1
    for no, each in blocks:
        if len(found[each]) != (BLOCK if no < last else entry.size - last * BLOCK):
            raise VolumeDamaged(f"a block of {os.fsdecode(entry.path)!r} has the wrong size")
        write_all(fd, [found[each]], no * BLOCK)
    return sum(len(found[each]) for _, each in blocks), []


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
