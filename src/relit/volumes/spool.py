"""The node's spool: packs being written, and sealed ones on their way to the blob store. Blocking, thread-safe.

One open pack takes the records of all volumes. It is sealed when it is full or when an upload is due, never while a
delta in it is neither committed nor dropped: a sealed index says which snapshots were committed. An open pack that a
crash left behind is cut to the size that the catalog knows, and sealed; it is never written to again, so that no nonce
is used twice. After a failed fsync nobody knows what is on disk: then nothing more is written until a restart.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from relit.errors import VolumeDamaged, VolumeError
from relit.lib.clock import Clock
from relit.lib.crashpoints import point
from relit.lib.pages import Stream
from relit.lib.ranges import read_ranges
from relit.manifest import Delta, Pack, PackState, Place, Snapshot, Volume
from relit.volumes.disk import explained, sync_folder
from relit.volumes.keys import Keys
from relit.volumes.pack import (
    CHUNK,
    COMMITTED,
    CONSOLIDATED,
    DELTA,
    DROPPED,
    HEADER,
    Data,
    DeltaRecord,
    Described,
    Index,
    Sealer,
    damaged,
    room,
)
from relit.volumes.packindex import walk
from relit.volumes.sealing import Sealing

POINTS: tuple[str, ...] = (
    "volumes.spool.opened",
    "volumes.spool.finished",
    "volumes.spool.sealed",
    "volumes.spool.cut",
    "volumes.spool.resealed",
    "volumes.spool.recovered",
)
LIMIT = 64 << 20
_BATCH, _BATCH_BYTES = 1024, 8 << 20  # records sealed together before they are written
_SHARED = 256 << 10  # bytes from which on two threads seal them
_OPEN, _SEALED, _ORPHAN = ".open", ".pack", ".orphan"

Chunk = tuple[bytes, Data]


class _Writing:
    """The open pack."""

    def __init__(self, folder: Path, keys: Keys | None, created_at_ms: int) -> None:
        self.id = secrets.token_hex(16)
        self.path = folder / (self.id + _OPEN)
        self.sealer = Sealer(self.id, keys)
        self.created_at_ms = created_at_ms
        self.index = Index([], [])
        self.pending: dict[int, Described] = {}  # deltas by offset, until they are settled
        self.promised = 0  # bytes of records that are being made
        self.finished = False
        self.counter = 0
        self.size = 0
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.named = False  # whether its name is on disk
        self.stream = Stream(self.fd)
        try:
            self.write(self.sealer.header())
        except OSError:
            os.close(self.fd)
            self.path.unlink(missing_ok=True)
            raise

    def write(self, data: Data) -> None:
        """Append all or nothing."""
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self.fd, memoryview(data)[done:], self.size + done)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        self.size += len(data)

    def finish(self) -> None:
        """Write index and footer, once. After a failure it may be asked again."""
        if not self.finished:
            self.index.manifests.sort(key=lambda each: each.offset)
            self.write(self.sealer.finish(self.size, self.index))
            self.finished = True

    @property
    def worth(self) -> bool:
        """Whether anything in it is of use."""
        return bool(self.index.chunks) or any(each.role != DROPPED for each in self.index.manifests)


class Spool:
    """``keys`` is ``None`` when packs are not encrypted. One process at a time has a folder."""

    def __init__(self, folder: Path, keys: Keys | None, *, node: str, clock: Clock, limit: int = LIMIT) -> None:
        self._folder = folder
        self._keys = keys
        self._node = node
        self._clock = clock
        self._limit = limit
        self._lock = threading.RLock()
        self._newest_ms = 0
        self._writing: _Writing | None = None
        self._full: list[_Writing] = []  # no longer written to, not sealed yet
        self._sealed: dict[str, Pack] = {}
        self._dirty: set[str] = set()  # packs with bytes that no fsync has seen
        self._broken = ""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="relit-seal")
        self._help = Sealing(keys)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    # --- writing -----------------------------------------------------------------------------------------------

    def put(self, chunks: Sequence[Chunk]) -> list[Place]:
        """Append chunks; the same id twice in one call is written once. StoreFull: nothing half of it counts."""
        known: dict[bytes, Place] = {}
        for batch in _batches(list(dict(chunks).items()), min(self._limit, _BATCH_BYTES)):
            self._append(batch, known)
        return [known[id] for id, _ in chunks]

    def _append(self, chunks: Sequence[Chunk], known: dict[bytes, Place]) -> None:
        """Sealed before it is their turn to be written, so that others can be sealed meanwhile."""
        contents = [data for _, data in chunks]
        taken = room(contents)
        with self._working():
            into = self._pack(taken)
            first = into.counter
            into.counter += len(chunks)
            into.promised += taken
        try:
            with self._records(into.sealer, first, contents) as (records, lengths), self._working():
                offset = into.size
                self._dirty.add(into.id)  # somebody's sync may have come since it was promised
                into.write(records)
                for (id, data), length in zip(chunks, lengths, strict=True):
                    known[id] = Place(into.id, offset, length, len(data))
                    into.index.chunks.append((id, offset, length, len(data)))
                    offset += length
                with self._once(into):
                    into.stream.written(into.size)
        finally:
            with self._lock:
                into.promised -= taken

    @contextlib.contextmanager
    def _records(self, sealer: Sealer, first: int, contents: Sequence[Data]) -> Iterator[tuple[Data, list[int]]]:
        """(records of these, one after the other, the length of each)."""
        sealed = self._help.seal(sealer.pack, first, contents)
        if sealed is None:
            made = self._sealed_records(sealer, first, contents)
            yield b"".join(made), [len(each) for each in made]
            return
        try:
            yield sealed.records, sealed.lengths
        finally:
            sealed.close()

    def helped(self, size: int) -> contextlib.AbstractContextManager[None]:
        """So many bytes are about to come: another process seals them, if that is worth its start."""
        return self._help.wanted(size)

    def _sealed_records(self, sealer: Sealer, first: int, contents: Sequence[Data]) -> list[bytes]:
        """Records of these, in order; two threads share the work where it is more than handing it over costs."""

        def seal(start: int, end: int) -> list[bytes]:
            return sealer.seal_all(CHUNK, first + start, contents[start:end])

        total, half, left = sum(map(len, contents)), len(contents), 0
        if total < _SHARED:
            return seal(0, half)
        while left + len(contents[half - 1]) <= total // 2:
            half -= 1
            left += len(contents[half])
        other = self._pool.submit(seal, half, len(contents))
        return seal(0, half) + other.result()

    def put_delta(
        self, volume: Volume, snapshot: Snapshot, delta: Delta, *, base: int | None = None, consolidated: bool = False
    ) -> Place:
        """Append a manifest record. It keeps its pack open until ``settle``.

        ``base``: the snapshot that ``delta`` starts from, by default the one before. ``consolidated``: the snapshot was
        committed before, and this is a further record of it.
        """
        if base is None:
            base = 0 if delta.full else snapshot.number - 1
        data = msgspec.msgpack.encode(DeltaRecord(volume, snapshot, delta, consolidated, base))
        with self._working():
            into = self._pack(room([data]))
            counter, into.counter = into.counter, into.counter + 1
            record, offset = into.sealer.seal(DELTA, counter, data), into.size
            into.write(record)
            role = CONSOLIDATED if consolidated else COMMITTED
            made = Described(volume.id, snapshot.number, snapshot.id, role, offset, len(record), len(data), base)
            into.pending[offset] = made
            return made.place(into.id)

    def settle(self, place: Place, committed: bool) -> None:
        """The delta's snapshot was committed, or never will be. Safe twice: the first word counts."""
        with self._lock:
            for each in self._unsealed():
                if each.id == place.pack and (found := each.pending.pop(place.offset, None)) is not None:
                    role = found.role if committed else DROPPED
                    each.index.manifests.append(msgspec.structs.replace(found, role=role))

    def _pack(self, more: int) -> _Writing:
        """The pack that takes so many more bytes: a new one when the open one would grow over the limit by them."""
        last = self._writing
        if last is not None and last.counter and last.size + last.promised + more > self._limit:
            self._full.append(last)
            self._writing = None
        if self._writing is None:
            self._writing = _Writing(self._folder, self._keys, self._now_ms())
            point("volumes.spool.opened")
        self._dirty.add(self._writing.id)
        return self._writing

    def _now_ms(self) -> int:
        """Later than any pack before: a snapshot is stored when all packs up to its own are."""
        self._newest_ms = max(self._clock.now_ms(), self._newest_ms + 1)
        return self._newest_ms

    def sync(self) -> list[Pack]:
        """What was written before is on disk when this returns. Answers all packs here that anything may refer to.

        Also those that had been synced before: another's sync may have seen our bytes, and its commit may fail.
        """
        with self._working():
            for each in self._unsealed():
                if each.id in self._dirty:
                    self._flush(each)
            return [*self._sealed.values(), *(self._described(each, sealed=False) for each in self._unsealed())]

    def _flush(self, each: _Writing) -> None:
        with self._once(each):
            os.fdatasync(each.fd)
            if not each.named:  # by now that costs next to nothing
                sync_folder(self._folder)
                each.named = True
        self._dirty.discard(each.id)

    @contextlib.contextmanager
    def _once(self, each: _Writing) -> Iterator[None]:
        """The disk says only once that it did not take something."""
        try:
            yield
        except OSError as error:
            self._broken = f"{each.path}: {error.strerror or error}"
            raise

    def _unsealed(self) -> list[_Writing]:
        return [*self._full, *([self._writing] if self._writing is not None else [])]

    def _described(self, each: _Writing, *, sealed: bool) -> Pack:
        state: PackState = "sealed" if sealed else "open"
        return Pack(id=each.id, node=self._node, state=state, size=each.size, created_at_ms=each.created_at_ms)

    # --- sealing -----------------------------------------------------------------------------------------------

    def seal(self, force: bool = True) -> list[Pack]:
        """Seal packs without a pending delta, or chunks that are being sealed: full ones, with ``force`` the one being
        written too. One that must wait takes no further record, so that the next call finds it."""
        with self._working():
            last = self._writing
            if force and last is not None and (last.worth or last.pending or last.promised):
                self._full.append(last)
                self._writing = None
            return [self._seal(each) for each in list(self._full) if not (each.pending or each.promised)]

    def _seal(self, each: _Writing) -> Pack:
        if each.path.exists():  # else it was renamed, and only the folder's fsync is missing
            each.finish()
            self._flush(each)
            point("volumes.spool.finished")
            os.rename(each.path, self._folder / (each.id + _SEALED))
        sync_folder(self._folder)
        point("volumes.spool.sealed")
        os.close(each.fd)
        self._full.remove(each)
        self._sealed[each.id] = self._described(each, sealed=True)
        return self._sealed[each.id]

    def sealed(self) -> list[tuple[Pack, Path]]:
        """Packs that wait for the blob store."""
        with self._lock:
            return [(pack, self._folder / (pack.id + _SEALED)) for pack in self._sealed.values()]

    def waiting(self) -> int:
        """Bytes that are here and not in the blob store."""
        with self._lock:
            return sum(pack.size for pack in self._sealed.values()) + sum(each.size for each in self._unsealed())

    def release(self, pack: Pack) -> None:
        """It is in the blob store: the copy here is not needed any more."""
        with self._lock, explained(self._folder):
            (self._folder / (pack.id + _SEALED)).unlink(missing_ok=True)
            self._sealed.pop(pack.id, None)

    # --- reading and recovering --------------------------------------------------------------------------------

    def fetch(self, place: Place) -> bytes | None:
        """A record as it lies in a pack here, short where the file is; ``None`` when the pack is not here."""
        found = self.fetch_all(place.pack, [place])
        return found[0] if found is not None else None

    def files(self, pack: str) -> tuple[Path, Path]:
        """Where a pack lies here: first while it is written, then until it is in the blob store."""
        return self._folder / (pack + _OPEN), self._folder / (pack + _SEALED)

    def fetch_all(self, pack: str, places: Sequence[Place]) -> list[bytes] | None:
        """The same for several records of one pack."""
        with explained(self._folder):
            for suffix in (_SEALED, _OPEN, _SEALED):  # it may be sealed between two looks
                with contextlib.suppress(FileNotFoundError), open(self._folder / (pack + suffix), "rb") as file:
                    return read_ranges(file.fileno(), [(place.offset, place.length) for place in places])
        return None

    def recover(self, packs: Sequence[Pack], committed: Collection[str]) -> list[VolumeDamaged]:
        """At a start, before anything is written: seal packs that were open, cut to what the catalog knows; remove
        what is stored already; set aside what it does not know (``.orphan``), until the next start finds it still
        unknown.

        ``packs``: this node's, at least those that are not stored; ``committed``: ids of snapshots whose delta may be
        in them. Answers what is damaged: what can be read of such a pack is sealed and goes its way all the same.
        """
        known = {pack.id: pack for pack in packs}
        self._newest_ms = max((pack.created_at_ms for pack in packs), default=0)
        troubles: list[VolumeDamaged] = []
        with self._working():
            for path in self._left(known):
                troubles += self._recover(path, known.get(path.stem), committed)
        here = self._sealed.keys() | {each.id for each in self._unsealed()}
        return troubles + [_lost(pack) for pack in packs if pack.state in ("open", "sealed") and pack.id not in here]

    def _left(self, known: Collection[str]) -> list[Path]:
        """What an earlier process left here. An orphan of an earlier start is taken back when the catalog knows it by
        now (a commit may come to its end after the one who asked for it); else nothing can refer to it any more."""
        for path in sorted(self._folder.glob(f"*{_ORPHAN}")):
            was = path.with_name(path.stem)
            if was.stem in known:
                path.rename(was)
            elif was.suffix in (_OPEN, _SEALED):
                path.unlink()
        mine = {each.path for each in self._unsealed()}
        return [path for path in sorted(self._folder.iterdir()) if path.suffix != _ORPHAN and path not in mine]

    def _recover(self, path: Path, pack: Pack | None, committed: Collection[str]) -> list[VolumeDamaged]:
        if pack is None or path.suffix not in (_OPEN, _SEALED):
            path.rename(path.with_name(path.name + _ORPHAN))
            return []
        if pack.state in ("stored", "condemned"):
            path.unlink()
            return []
        troubles, place = [], self._folder / (pack.id + _SEALED)
        if path.suffix == _OPEN:
            troubles = self._reseal(path, pack, committed)
            point("volumes.spool.resealed")
            os.rename(path, place)
            sync_folder(self._folder)
            point("volumes.spool.recovered")
        self._sealed[pack.id] = msgspec.structs.replace(pack, state="sealed", size=place.stat().st_size)
        return troubles

    def _reseal(self, path: Path, pack: Pack, committed: Collection[str]) -> list[VolumeDamaged]:
        data = path.read_bytes()[: pack.size]
        sealer, troubles = self._reopened(data[: HEADER.size], pack)
        found = walk(data, sealer, self._keys)
        troubles += found.troubles
        if found.end != pack.size:
            lost = Place(pack.id, found.end, pack.size - found.end, 0)
            troubles.append(damaged(lost, f"its records end here, the catalog knows {pack.size} bytes"))
        manifests = [_settled(each, committed) for each in found.index.manifests]
        with open(path, "r+b") as file:
            file.write(sealer.header())
            file.truncate(found.end)
            point("volumes.spool.cut")
            file.seek(found.end)
            file.write(sealer.finish(found.end, Index(found.index.chunks, manifests)))
            file.flush()
            os.fsync(file.fileno())
        return troubles

    def _reopened(self, header: bytes, pack: Pack) -> tuple[Sealer, list[VolumeDamaged]]:
        try:
            return Sealer.of(header, pack.id, self._keys), []
        except VolumeDamaged as error:  # it says nothing that is not known: it is written anew
            return Sealer(pack.id, self._keys), [error]

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        with self._lock, explained(self._folder):
            if self._broken:
                raise VolumeError(
                    f"the spool {self._folder} takes nothing more",
                    why=f"an fsync failed, {self._broken}: what is on disk is not known",
                    fix="look after the disk, then restart: everything committed is recovered",
                )
            yield

    def close(self) -> None:
        """Let go of files and threads; what was not sealed is recovered at the next start. Safe twice."""
        with self._lock:
            for each in self._unsealed():
                os.close(each.fd)
                each.fd = -1  # nothing that is still being sealed is written to another file
            self._full, self._writing = [], None
        self._pool.shutdown()
        self._help.close()


def _batches(chunks: Sequence[Chunk], most: int) -> Iterator[Sequence[Chunk]]:
    batch: list[Chunk] = []
    size = 0
    for chunk in chunks:
        if batch and (len(batch) == _BATCH or size + room([chunk[1]]) > most):
            yield batch
            batch, size = [], 0
        batch.append(chunk)
        size += room([chunk[1]])
    if batch:
        yield batch


def _settled(each: Described, committed: Collection[str]) -> Described:
    known = each.role == CONSOLIDATED or each.snapshot in committed
    return each if known else msgspec.structs.replace(each, role=DROPPED)


def _lost(pack: Pack) -> VolumeDamaged:
    return damaged(Place(pack.id, 0, pack.size, 0), "the catalog says that it is in the spool, but it is not")
