"""Takes snapshots of one home while its agent works.

What was touched is read while the agent runs; then the agent is frozen, and only what was touched again is read
again, into a bounded buffer. So the freeze lasts as long as a short copy, and every file of the snapshot is as it was
at one moment: databases stand beside their write-ahead logs as a power cut would have left them. Packing and the
commit come after the thaw. The tree in memory changes only when the catalog has committed; after a failure everything
that was touched stays due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from relit.errors import (
    Conflict,
    FreezeFailed,
    Overtaken,
)
from relit.lib.clock import Clock
from relit.lib.crashpoints import point
from relit.lib.service import finished
from relit.manifest import Commit, Delta, Entry, Pack, Place, Position, Reason, Segment, Snapshot, Volume
from relit.volumes.arenas import Arenas
from relit.volumes.attempt import Attempt, Behind, Cancelled, Chunks, Grew
from relit.volumes.base import Catalog, Freezer, Watch
from relit.volumes.chunking import Ends
from relit.volumes.clones import Clones
from relit.volumes.disk import failed
from relit.volumes.laid import laid
from relit.volumes.limits import Limits, foreseen, too_large
from relit.volumes.look import Looked
from relit.volumes.lookout import Lookout
from relit.volumes.moved import noted, remember
from relit.volumes.reading import Reader
from relit.volumes.restore import Restored
from relit.volumes.tree import Seen, Tree, View, consistent, split

POINTS: tuple[str, ...] = (
    "volumes.snapshot.copied",
    "volumes.snapshot.thawed",
    "volumes.snapshot.packed",
    "volumes.snapshot.synced",
    "volumes.snapshot.staged",
    "volumes.snapshot.committed",
)
_BATCH = 4 << 20
_ROWS = 5_000  # of the manifest in one transaction
_EARLY = 1 << 20  # bytes of new chunks that are packed before the freeze; less than that waits
_FEW, _LITTLE = 200, 1 << 20  # paths, and bytes of files, that are no work for a thread
_TRIES = 3
_RECENT_S = 1.0


T = TypeVar("T")
Positions = Callable[[], Coroutine[None, None, Position]]


class Spooling(Protocol):
    """What a snapshot needs of the spool."""

    def put(self, chunks: Sequence[tuple[bytes, bytes | memoryview]]) -> list[Place]: ...

    def helped(self, size: int) -> AbstractContextManager[None]: ...

    def put_delta(self, volume: Volume, snapshot: Snapshot, delta: Delta) -> Place: ...

    def settle(self, place: Place, committed: bool) -> None: ...

    def sync(self) -> list[Pack]: ...


class Stopped(msgspec.Struct, frozen=True):
    """What was seen between freeze and thaw."""

    seen: dict[bytes, Seen | None]
    position: Position
    at_ms: int
    freeze_us: int
    doubtful: set[bytes]


class Capture:
    """Snapshots of one volume, one at a time. ``patterns``: what its agent's kind leaves out."""

    def __init__(
        self,
        volume: Volume,
        home: Path,
        *,
        catalog: Catalog,
        spool: Spooling,
        id_of: Callable[[memoryview], bytes],
        watch: Watch,
        freezer: Freezer,
        clock: Clock,
        new_id: Callable[[], str],
        arenas: Arenas,
        patterns: Sequence[str] = (),
        limits: Limits | None = None,
        buffer: int = 32 << 20,
    ) -> None:
        self.volume = volume
        self.home = home
        self._catalog = catalog
        self._spool = spool
        self._lookout = Lookout(home, watch, patterns, clock)
        self._freezer = freezer
        self._clock = clock
        self._new_id = new_id
        self._limits = limits or Limits()
        self._buffer = buffer
        self._arenas = arenas
        self._id_of = id_of
        self._ends = Ends()
        self._tree: Tree | None = None
        self._laid: dict[bytes, Seen] = {}
        self._lock = asyncio.Lock()

    async def take(
        self,
        reason: Reason,
        note: str = "",
        *,
        always: bool = False,
        only: Collection[bytes] | None = None,
        position: Positions,
    ) -> Snapshot | None:
        """Take a snapshot; ``None`` when nothing has changed (unless ``always``). ``only``: nothing else was touched
        since the last one.

        Raises FreezeFailed, StoreFull, VolumeTooLarge and what the catalog raises; the agent goes on either way.
        """
        async with self._lock, self._arenas.one() as arena:
            reader = Reader(self._id_of, arena, self._ends)
            for turn in range(_TRIES):
                try:
                    done, taken = await self._try(reader, reason, note, always, only, position)
                except Overtaken:
                    if turn + 1 == _TRIES:
                        raise
                    continue  # the tree is read anew
                except OSError as error:
                    what = f"no snapshot of {self.volume.name} was taken"
                    raise failed(what, error, "mend the cause; the next round tries again") from error
                if done:
                    return taken
            raise FreezeFailed(
                f"no snapshot of {self.volume.name} was taken",
                why=f"its processes were let go before copying was done, {_TRIES} times",
                fix="relit volume snapshot tries again; a smaller home or a faster disk helps",
            )

    async def _try(
        self,
        reader: Reader,
        reason: Reason,
        note: str,
        always: bool,
        only: Collection[bytes] | None,
        position: Positions,
    ) -> tuple[bool, Snapshot | None]:
        """(whether this is the answer, the snapshot). A cancellation waits until nothing of it goes on."""
        tree = await self._load()
        draft = Snapshot(
            id=self._new_id(),
            volume=self.volume.id,
            number=self.volume.newest + 1,
            at_ms=0,
            reason=reason,
            note=note,
        )
        attempt = Attempt(self._buffer)
        # A store to a file that was mapped in the last second can wait for the next interval.
        recent_s = _RECENT_S if reason == "interval" else 0.0
        early = await finished(self._copy(tree, attempt, reader, recent_s, only), attempt.cancel)
        if not always and tree.delta(early).empty:
            self._lookout.done()
            return True, None
        stopped = await finished(self._stand_still(tree, attempt, early, reader, position))
        if stopped is None:
            return False, None
        return True, await finished(self._commit(tree, attempt, draft, stopped))

    async def renewed(self, entries: Sequence[Entry], segments: Sequence[Segment], done: Restored) -> None:
        """The whole home has just been laid anew, with these: the next snapshot need not read them again."""
        async with self._lock:
            tree, now_ms = await self._load(), self._clock.now_ms()
            moved = await asyncio.to_thread(remember, self.home, self.volume, now_ms, tree, entries, segments, done)
            self._lookout.since(now_ms)
            self._laid = await asyncio.to_thread(laid, moved.others(entries), segments, done)

    async def put_back(self, entries: Sequence[Entry], segments: Sequence[Segment], done: Restored) -> None:
        """Some of these were laid in place just now: their next version is the one that was laid, chunk by chunk."""
        async with self._lock:
            some = [each for each in entries if each.path in done.facts]
            self._laid = laid(some, [each for each in segments if each.path in done.facts], done)

    async def tree(self) -> Tree:
        """What the newest snapshot holds."""
        async with self._lock:
            return await self._load()

    def close(self) -> None:
        """Watch no longer."""
        self._lookout.close()

    # --- what changed ------------------------------------------------------------------------------------------

    async def _load(self) -> Tree:
        if self._tree is None:
            self.volume = await self._catalog.volume(self.volume.name)
            number = self.volume.newest
            await self._catalog.unstage(self.volume.id, number + 1)  # what a crash left
            entries = await self._catalog.tree(self.volume.id, number) if number else []
            segments = await self._catalog.all_segments(self.volume.id, number) if number else []
            began_ms = (await self._catalog.snapshot(self.volume.id, number)).began_ms if number else 0
            moved = await asyncio.to_thread(noted, self.home, self.volume)
            self._lookout.since(moved.at_ms if moved is not None and moved.number == number else began_ms)
            known = entries if moved is None else moved.apply(entries)
            self._tree = await asyncio.to_thread(Tree, known, segments)
        return self._tree

    async def _copy(
        self, tree: Tree, attempt: Attempt, reader: Reader, recent_s: float, only: Collection[bytes] | None
    ) -> dict[bytes, Seen | None]:
        """Read what changed while the agent goes on."""
        packing = Behind(lambda chunks: self._put(attempt, chunks))

        def hold(id: bytes, data: memoryview) -> bool:
            """Whether a batch is full."""
            if attempt.cancelled:
                raise Cancelled
            if attempt.new(id):
                attempt.hold(id, data)
            return attempt.size >= _BATCH

        def pack(id: bytes, data: memoryview) -> None:
            if hold(id, data):
                packing.take(attempt.drain())

        def stay_light(id: bytes, data: memoryview) -> None:
            if hold(id, data):
                raise Grew

        with self._lookout.opened() as home:
            due = self._lookout.early(recent_s, only)
            attempt.began_ms = due.at_ms
            looked = await _done(lambda: self._lookout.look(home, View(tree), due), light=due.light)
            self._check(tree, looked)

            def read() -> dict[bytes, Seen | None]:
                with self._spool.helped(_bytes(looked)), packing:
                    return reader.see(home, tree, looked, pack, laid=self._laid)

            try:
                if not _light(looked):
                    raise Grew
                seen = reader.see(home, tree, looked, stay_light, laid=self._laid)
            except Grew:  # packing waits for this loop, so that a thread has to wait for packing
                seen = await asyncio.to_thread(read)
        attempt.reused |= {id for path in self._laid.keys() & seen.keys() for id in split(self._laid[path].ids)}
        if attempt.size >= _EARLY:
            await self._put(attempt, attempt.drain())
        point("volumes.snapshot.copied")
        return seen

    def _check(self, tree: Tree, looked: Looked) -> None:
        """Raises VolumeTooLarge before anything is read: it would be packed in vain, round after round."""
        files, total = foreseen(tree, looked)
        if not self._limits.kept(files, total):
            known = {path: entry.size for path, entry in tree.entries.items() if path not in looked}
            sizes = known | {path: found.st_size for path, found in looked.items() if found is not None}
            raise too_large(self._limits, files, total, sizes, self.home, self.volume.name)

    async def _put(self, attempt: Attempt, chunks: Chunks) -> None:
        """Bring chunks into the spool, except what packs have already."""
        if new := await self._unknown(attempt, chunks):
            await asyncio.to_thread(self._pack, attempt, new)

    async def _unknown(self, attempt: Attempt, chunks: Chunks) -> Chunks:
        if not chunks:
            return []
        known = await self._catalog.known([id for id, _ in chunks], self.volume.node)
        attempt.reused |= known
        return [each for each in chunks if each[0] not in known]

    def _pack(self, attempt: Attempt, chunks: Chunks) -> None:
        if chunks:
            attempt.fresh.update(zip((id for id, _ in chunks), self._spool.put(chunks), strict=True))

    # --- the moment --------------------------------------------------------------------------------------------

    async def _stand_still(
        self,
        tree: Tree,
        attempt: Attempt,
        early: dict[bytes, Seen | None],
        reader: Reader,
        position: Positions,
    ) -> Stopped | None:
        """Freeze, read again what was touched since, thaw. ``None``: let go too early, nothing of it counts."""
        frozen = await self._freezer.freeze()
        began = self._clock.monotonic()
        whole = True
        clones = Clones(self.home.parent)
        try:
            again = frozen or self._lookout.exact  # a second sweep of a home at rest would find nothing new
            late = await self._again(tree, attempt, early, reader, clones) if again else {}
            where = await position()
            at_ms = self._clock.now_ms()
        except BaseException:
            clones.close()
            raise
        finally:
            if frozen:
                whole = await self._freezer.thaw()
        if not frozen and await self._freezer.freeze():  # it was started while its files were read
            await self._freezer.thaw()
            whole = False
        took = round((self._clock.monotonic() - began) * 1e6) if frozen else 0
        point("volumes.snapshot.thawed")
        if not whole:
            clones.close()
            return None
        seen = early | late
        if clones.postponed:
            seen |= await asyncio.to_thread(self._postponed, clones, attempt, reader)
        seen, doubtful = await _done(lambda: consistent(tree, seen), light=len(seen) < _FEW)
        return Stopped(seen, where, at_ms, took, doubtful)

    def _postponed(self, clones: Clones, attempt: Attempt, reader: Reader) -> dict[bytes, Seen | None]:
        try:
            return reader.postponed(clones, lambda id, data: self._hold(attempt, id, data))
        finally:
            clones.close()

    async def _again(
        self, tree: Tree, attempt: Attempt, early: dict[bytes, Seen | None], reader: Reader, clones: Clones
    ) -> dict[bytes, Seen | None]:
        def sink(id: bytes, data: memoryview) -> None:
            self._hold(attempt, id, data)

        with self._lookout.opened() as home:
            known, due = View(tree, early), self._lookout.late(self._freezer.pids())
            looked = await _done(lambda: self._lookout.look(home, known, due), light=due.light)
            return await _done(lambda: reader.see(home, tree, looked, sink, early, clones), light=_light(looked))

    def _hold(self, attempt: Attempt, id: bytes, data: memoryview) -> None:
        """Keep a chunk in the buffer; when that is full it is written out: slower, but right."""
        if attempt.new(id):
            attempt.hold(id, data)
        if attempt.size >= attempt.limit:
            self._pack(attempt, attempt.drain())

    # --- the record --------------------------------------------------------------------------------------------

    async def _commit(self, tree: Tree, attempt: Attempt, draft: Snapshot, stopped: Stopped) -> Snapshot:
        seen = stopped.seen
        delta = tree.delta(seen)
        chunks = await self._unknown(attempt, attempt.drain())
        draft = msgspec.structs.replace(self._described(tree, draft, stopped), began_ms=attempt.began_ms)
        if not self._limits.kept(draft.files, draft.bytes):
            sizes = tree.sizes(seen)
            raise too_large(self._limits, draft.files, draft.bytes, sizes, self.home, self.volume.name)
        taken, at, packs = await asyncio.to_thread(self._write, attempt, draft, delta, chunks)
        done = False
        try:
            snapshot = await self._record(taken, delta, at, attempt, packs)
            done = True
        finally:
            self._spool.settle(at, done)
        point("volumes.snapshot.committed")
        tree.apply(seen)
        self._laid = {}
        self._lookout.done(stopped.doubtful)
        self.volume = msgspec.structs.replace(self.volume, newest=snapshot.number)
        return snapshot

    def _write(
        self, attempt: Attempt, draft: Snapshot, delta: Delta, chunks: Chunks
    ) -> tuple[Snapshot, Place, list[Pack]]:
        """The last chunks and the manifest's record, on disk: (the snapshot, where its record lies, the packs)."""
        self._pack(attempt, chunks)
        fresh = sum(place.length for place in attempt.fresh.values())
        taken = msgspec.structs.replace(draft, fresh=fresh, local_at_ms=self._clock.now_ms())
        at = self._spool.put_delta(self.volume, taken, delta)
        try:
            point("volumes.snapshot.packed")
            into = {at.pack, *(place.pack for place in attempt.fresh.values())}
            packs = [pack for pack in self._spool.sync() if pack.id in into]
            point("volumes.snapshot.synced")
        except BaseException:
            self._spool.settle(at, False)
            raise
        return taken, at, packs

    def _described(self, tree: Tree, draft: Snapshot, stopped: Stopped) -> Snapshot:
        files, total = len(tree.entries), tree.bytes
        for path, now in stopped.seen.items():
            before = tree.entries.get(path)
            files += (now is not None) - (before is not None)
            total += (now.entry.size if now and not now.entry.hard else 0) - (
                before.size if before and not before.hard else 0
            )
        return msgspec.structs.replace(
            draft,
            at_ms=stopped.at_ms,
            files=files,
            bytes=total,
            freeze_us=stopped.freeze_us,
            position=stopped.position,
            quiescent=not stopped.position.runs,
            skipped=self._lookout.skipped(),
        )

    async def _record(
        self, taken: Snapshot, delta: Delta, at: Place, attempt: Attempt, packs: Sequence[Pack]
    ) -> Snapshot:
        chunks, small, staged = list(attempt.fresh.items()), delta, False
        if len(chunks) > _ROWS:
            for some in _batches(chunks):
                await self._catalog.load_chunks(some, packs)
            chunks = []
        try:
            if len(delta.entries) + len(delta.segments) + len(delta.gone) > _ROWS:
                staged = True
                for part in _parts(delta):
                    await self._catalog.stage(self.volume.id, taken.number, part)
                small = Delta()
                point("volumes.snapshot.staged")
            return await self._catalog.commit(
                Commit(
                    snapshot=taken,
                    delta=small,
                    at=at,
                    chunks=chunks,
                    reused=sorted(attempt.reused),
                    packs=list(packs),
                    into=sorted({place.pack for place in attempt.fresh.values()}),
                    staged=staged,
                )
            )
        except Conflict:
            self._tree = None  # somebody else's snapshot, or a pack that went: read everything anew
            self._laid = {}
            raise
        finally:
            if staged and taken.number == self.volume.newest + 1:
                await self._unstage(taken)

    async def _unstage(self, taken: Snapshot) -> None:
        """Take staged rows back, unless the snapshot is there after all."""
        if not any(each.number == taken.number for each in await self._catalog.snapshots(self.volume.id, limit=1)):
            await self._catalog.unstage(self.volume.id, taken.number)


async def _done(work: Callable[[], T], *, light: bool) -> T:
    """The result of ``work``, done in a thread if it is not light: handing it over takes half a millisecond."""
    return work() if light else await asyncio.to_thread(work)


def _light(looked: Looked) -> bool:
    """Whether these files are read in a few milliseconds."""
    return len(looked) < _FEW and _bytes(looked) < _LITTLE


def _bytes(looked: Looked) -> int:
    return sum(found.st_size for found in looked.values() if found is not None)


def _batches(chunks: list[tuple[bytes, Place]]) -> Iterator[list[tuple[bytes, Place]]]:
    for at in range(0, len(chunks), _ROWS):
        yield chunks[at : at + _ROWS]


def _parts(delta: Delta) -> Iterator[Delta]:
    """A large delta in pieces that fit a transaction each; the order within it is kept."""
    yield Delta(full=delta.full, gone=delta.gone, cut=delta.cut)
    for at in range(0, len(delta.entries), _ROWS):
        yield Delta(entries=delta.entries[at : at + _ROWS])
    for at in range(0, len(delta.segments), _ROWS):
        yield Delta(segments=delta.segments[at : at + _ROWS])
