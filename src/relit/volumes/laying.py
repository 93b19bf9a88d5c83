"""Files laid down from their chunks: in parallel, packs read in order, holes kept."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from relit.errors import VolumeDamaged, VolumeError
from relit.lib.pages import Trail
from relit.lib.service import finished
from relit.manifest import ID_BYTES, Entry, Skipped
from relit.volumes.beneath import Beneath
from relit.volumes.fetched import Opens
from relit.volumes.peer import worthwhile
from relit.volumes.writing import Laid, Piece, Pour, dress, split, write_all, write_pieces

log = logging.getLogger("relit.volumes")
BLOCK = 16384  # of database files
PATCHED = 1 << 20  # from this size on a database's unchanged blocks are copied from the file that is there
_BATCH = 256  # chunks of one file asked for at once
_TOGETHER = 8 << 20  # bytes of files of several chunks that are one piece of work
_HANDS = 2
_FICLONE = 0x40049409


class Hand(Protocol):
    """Opens chunks and writes files."""

    def do(self, pieces: Sequence[Piece], fetched: Opens) -> Laid:
        """All of them. Blocking."""
        ...

    def finish(self) -> None:
        """Nothing follows. OSError: something of it did not come to the disk."""
        ...

    def close(self) -> None: ...


class _Thread:
    """A hand of this process. What it is asked to do is done in the thread that asks."""

    def __init__(self, root: Path, *, sync: bool, much: bool) -> None:
        self._root = Beneath(root)
        self._sync = sync
        self._trail = Trail() if much else None

    def do(self, pieces: Sequence[Piece], fetched: Opens) -> Laid:
        return write_pieces(self._root, pieces, fetched.open(), sync=self._sync, trail=self._trail)

    def finish(self) -> None:
        if self._trail is not None:
            self._trail.finish()

    def close(self) -> None:
        self._root.close()
        if self._trail is not None:
            self._trail.close()


class Reader(Protocol):
    """Chunks by id (``relit.volumes.reader.Chunks``)."""

    async def fetch(self, ids: Sequence[bytes]) -> Opens:
        """All of them."""
        ...

    def batches(self, ids: Sequence[bytes]) -> AsyncIterator[Opens]:
        """Each distinct one once, in the order in which packs hold them, so many at a time as memory should hold."""
        ...


class Job(msgspec.Struct):
    """A file to lay at ``path``; ``base`` is an open older version whose chunk ids are ``base_ids``."""

    path: bytes
    entry: Entry
    ids: bytes
    base: int | None = None
    base_ids: bytes = b""


class Layer:
    """Lays files below a folder. ``skipped`` collects what could not be set.

    Work is done by two hands: two threads of this process or, with ``helper``, a thread and what that makes: another
    process, since two do not wait for one interpreter's lock.
    """

    def __init__(
        self, chunks: Reader, root: Path, *, sync: bool = False, helper: Callable[[Path], Hand] | None = None
    ) -> None:
        self._chunks = chunks
        self._root = root
        self._sync = sync
        self._helper = helper
        self._hands: list[Hand] = []
        self._free: asyncio.Queue[Hand] = asyncio.Queue()
        self._own = Beneath(root)
        self.written = 0
        self.skipped: list[Skipped] = []

    def close(self) -> None:
        """Safe twice. Blocking: another process may have to end."""
        self._own.close()
        for hand in self._hands:
            hand.close()
        self._hands = []

    async def finish(self) -> None:
        """Nothing more is to be laid. OSError: something did not come to the disk."""
        for hand in self._hands:
            await finished(asyncio.to_thread(hand.finish))

    async def lay(self, jobs: Sequence[Job]) -> None:
        """All of them, durable only when the caller syncs. Chunks are fetched while others are written."""
        async with asyncio.TaskGroup() as tasks:
            if not self._hands:
                self._free.put_nowait(self._thread())
                tasks.create_task(self._second())
            await self._single(tasks, [job for job in jobs if len(job.ids) == ID_BYTES])
            for group in _groups([job for job in jobs if _few(job)]):
                fetched = await self._chunks.fetch([id for job in group for id in split(job.ids)])
                await self._begin(tasks, [Piece(job.path, job.entry, job.ids) for job in group], fetched)
            turns = asyncio.Semaphore(_HANDS)
            for job in jobs:
                if len(job.ids) > ID_BYTES and not _few(job):
                    await turns.acquire()
                    tasks.create_task(self._large(job)).add_done_callback(lambda _: turns.release())
        if empty := [Piece(job.path, job.entry, b"") for job in jobs if not job.ids]:
            self._add(await finished(asyncio.to_thread(write_pieces, self._own, empty, {}, sync=self._sync)))

    def _thread(self) -> Hand:
        self._hands.append(_Thread(self._root, sync=self._sync, much=self._helper is not None))
        return self._hands[-1]

    async def _second(self) -> None:
        """The other hand joins when it is ready."""
        self._free.put_nowait(await finished(asyncio.to_thread(self._other)))

    def _other(self) -> Hand:
        if self._helper is None:
            return self._thread()
        try:
            self._hands.append(self._helper(self._root))
        except (VolumeError, OSError) as error:
            log.warning("no second process helps to lay files: %s", error)
            return self._thread()
        return self._hands[-1]

    async def _begin(self, tasks: asyncio.TaskGroup, pieces: list[Piece], fetched: Opens) -> None:
        """Have a hand do that, as soon as one is free."""
        hand = await self._free.get()
        tasks.create_task(self._do(hand, pieces, fetched))

    async def _do(self, hand: Hand, pieces: list[Piece], fetched: Opens) -> None:
        try:
            self._add(await finished(asyncio.to_thread(hand.do, pieces, fetched)))
        finally:
            self._free.put_nowait(hand)

    def _add(self, laid: Laid) -> None:
        self.written += laid[0]
        self.skipped += laid[1]

    async def _single(self, tasks: asyncio.TaskGroup, jobs: Sequence[Job]) -> None:
        """Files of one chunk, in the order in which packs hold them."""
        by_id: dict[bytes, list[Job]] = {}
        for job in jobs:
            by_id.setdefault(job.ids, []).append(job)
        async for fetched in self._chunks.batches(list(by_id)):
            pieces = [Piece(job.path, job.entry, job.ids) for id in fetched.sizes for job in by_id[id]]
            await self._begin(tasks, pieces, fetched)

    # --- large files -------------------------------------------------------------------------------------------

    async def _large(self, job: Job) -> None:
        fd = self._own.create(job.path)
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
        at, ids = 0, list(split(job.ids))
        async with asyncio.TaskGroup() as tasks:
            for first in range(0, len(ids), _BATCH):
                batch = ids[first : first + _BATCH]
                fetched = await self._chunks.fetch(batch)
                await self._begin(tasks, [Piece(job.path, job.entry, b"".join(batch), at)], fetched)
                at += sum(fetched.sizes[id] for id in batch)
        Pour(fd, job.entry).end(at)

    async def _patch(self, fd: int, job: Job, base: int) -> None:
        await finished(asyncio.to_thread(clone, base, fd, job.entry.size))
        old = list(split(job.base_ids))
        todo = [(no, each) for no, each in enumerate(split(job.ids)) if no >= len(old) or old[no] != each]
        for at in range(0, len(todo), _BATCH):
            batch = todo[at : at + _BATCH]
            fetched = await self._chunks.fetch([each for _, each in batch])
            self.written += await finished(asyncio.to_thread(_patched, fd, job.entry, fetched, batch))


def much(files: Iterable[Entry]) -> bool:
    """Whether a helper is worth its start for these."""
    return worthwhile(sum(entry.size for entry in files))


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


def _patched(fd: int, entry: Entry, fetched: Opens, blocks: Sequence[tuple[int, bytes]]) -> int:
    found = fetched.open()
    last = -(-entry.size // BLOCK) - 1
    for no, each in blocks:
        if len(found[each]) != (BLOCK if no < last else entry.size - last * BLOCK):
            raise VolumeDamaged(f"a block of {os.fsdecode(entry.path)!r} has the wrong size")
        write_all(fd, [found[each]], no * BLOCK)
    return sum(len(found[each]) for _, each in blocks)


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
