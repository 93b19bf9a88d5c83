"""The node's spool: packs being written, and sealed ones on their way to the blob store. Blocking, thread-safe.

One open pack takes the records of all volumes. It is sealed when it is full or when an upload is due, never while a
delta in it is neither committed nor dropped: a sealed index lists committed snapshots only. An open pack that a crash
left behind is cut to the size that the catalog knows, and sealed; it is never written to again, so that no nonce is
used twice.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from relit.errors import RelitError, StoreFull, VolumeError
from relit.lib.clock import Clock
from relit.manifest import Delta, Pack, Place, Snapshot, Volume
from relit.volumes.keys import Keys
from relit.volumes.pack import (
    CHUNK,
    DELTA,
    HEADER,
    DeltaRecord,
    Described,
    Index,
    Sealer,
    opened_header,
    records,
)

LIMIT = 64 << 20
_BATCH = 64  # records sealed together before they are written
_OPEN, _SEALED, _ORPHAN = ".open", ".pack", ".orphan"


class _Writing:
    """The open pack."""

    def __init__(self, folder: Path, keys: Keys | None, created_at_ms: int) -> None:
        self.id = secrets.token_hex(16)
        self.path = folder / (self.id + _OPEN)
        self.sealer = Sealer(self.id, keys)
        self.created_at_ms = created_at_ms
        self.chunks: list[tuple[bytes, int, int, int]] = []
        self.manifests: list[Described] = []
        self.pending: dict[int, Described] = {}  # deltas by offset, until they are settled
        self.counter = 0
        self.size = 0
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.write([self.sealer.header()])
        _sync_folder(folder)

    def write(self, parts: Sequence[bytes]) -> None:
        """Append all or nothing."""
        data = b"".join(parts)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self.fd, memoryview(data)[done:], self.size + done)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        self.size += len(data)

    def place(self, record: bytes, raw: int, offset: int) -> Place:
        return Place(self.id, offset, len(record), raw)


class Spool:
    """``keys`` is ``None`` when packs are not encrypted."""

    def __init__(self, folder: Path, keys: Keys | None, *, node: str, clock: Clock, limit: int = LIMIT) -> None:
        self._folder = folder
        self._keys = keys
        self._node = node
        self._clock = clock
        self._limit = limit
        self._lock = threading.RLock()
        self._writing: _Writing | None = None
        self._full: list[_Writing] = []  # no longer written to, waiting for their deltas to be settled
        self._sealed: dict[str, Pack] = {}
        self._unsynced: dict[str, _Writing] = {}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="relit-seal")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    # --- writing -----------------------------------------------------------------------------------------------

    def put(self, chunks: Sequence[tuple[bytes, bytes | memoryview]]) -> list[Place]:
        """Append chunks; the same id twice in one call is written once. StoreFull: nothing half of it counts."""
        known: dict[bytes, Place] = {}
        with self._lock, _explained(self._folder):
            fresh = list(dict(chunks).items())
            for at in range(0, len(fresh), _BATCH):
                self._append(fresh[at : at + _BATCH], known)
        return [known[id] for id, _ in chunks]

    def _append(self, chunks: Sequence[tuple[bytes, bytes | memoryview]], known: dict[bytes, Place]) -> None:
        into = self._pack()
        first = into.counter
        into.counter += len(chunks)
        seals = self._pool.map(
            lambda item: into.sealer.seal(CHUNK, first + item[0], item[1][1]), enumerate(chunks), chunksize=8
        )
        made, offset = list(seals), into.size
        into.write(made)
        for (id, data), record in zip(chunks, made, strict=True):
            known[id] = Place(into.id, offset, len(record), len(data))
            into.chunks.append((id, offset, len(record), len(data)))
            offset += len(record)

    def put_delta(self, volume: Volume, snapshot: Snapshot, delta: Delta) -> Place:
        """Append a manifest delta. It keeps its pack open until ``settle``."""
        data = msgspec.msgpack.encode(DeltaRecord(volume, snapshot, delta))
        with self._lock, _explained(self._folder):
            into = self._pack()
            record = into.sealer.seal(DELTA, into.counter, data)
            into.counter += 1
            place = Place(into.id, into.size, len(record), len(data))
            into.write([record])
            into.pending[place.offset] = Described(volume.id, snapshot.number, snapshot.id, place)
            return place

    def settle(self, place: Place, committed: bool) -> None:
        """The delta's snapshot was committed, or never will be."""
        with self._lock:
            for each in (*self._full, *([self._writing] if self._writing else [])):
                if each.id == place.pack and (found := each.pending.pop(place.offset, None)) is not None and committed:
                    each.manifests.append(found)

    def _pack(self) -> _Writing:
        if self._writing is not None and self._writing.size >= self._limit:
            self._full.append(self._writing)
            self._writing = None
        if self._writing is None:
            self._writing = _Writing(self._folder, self._keys, self._clock.now_ms())
        self._unsynced[self._writing.id] = self._writing
        return self._writing

    def sync(self) -> list[Pack]:
        """What was written is on disk when this returns. Answers the packs it is in, with their sizes."""
        with self._lock, _explained(self._folder):
            touched = list(self._unsynced.values())
            sizes = {each.id: each.size for each in touched}
            for each in touched:
                os.fdatasync(each.fd)
                if each.size == sizes[each.id]:
                    self._unsynced.pop(each.id, None)
            # A pack that was sealed meanwhile may hold chunks that are about to be committed: its row comes with them.
            return [*self._sealed.values(), *(self._described(each, "open", sizes[each.id]) for each in touched)]

    def _described(self, each: _Writing, state: str, size: int) -> Pack:
        return Pack(
            id=each.id,
            node=self._node,
            state="sealed" if state == "sealed" else "open",
            size=size,
            created_at_ms=each.created_at_ms,
        )

    # --- sealing -----------------------------------------------------------------------------------------------

    def seal(self, force: bool = True) -> list[Pack]:
        """Seal packs that hold something and no pending delta: full ones, with ``force`` the one being written too."""
        with self._lock, _explained(self._folder):
            ready = [each for each in self._full if not each.pending]
            last = self._writing
            if force and last is not None and (last.chunks or last.manifests) and not last.pending:
                ready.append(last)
                self._writing = None
            return [self._seal(each) for each in ready]

    def _seal(self, each: _Writing) -> Pack:
        if each in self._full:
            self._full.remove(each)
        each.write([each.sealer.finish(each.size, Index(each.chunks, each.manifests))])
        os.fsync(each.fd)
        os.close(each.fd)
        self._unsynced.pop(each.id, None)
        os.rename(each.path, self._folder / (each.id + _SEALED))
        _sync_folder(self._folder)
        self._sealed[each.id] = self._described(each, "sealed", each.size)
        return self._sealed[each.id]

    def sealed(self) -> list[tuple[Pack, Path]]:
        """Packs that wait for the blob store."""
        with self._lock:
            return [(pack, self._folder / (pack.id + _SEALED)) for pack in self._sealed.values()]

    def release(self, pack: Pack) -> None:
        """It is in the blob store: the copy here is not needed any more."""
        with self._lock, _explained(self._folder):
            self._sealed.pop(pack.id, None)
            (self._folder / (pack.id + _SEALED)).unlink(missing_ok=True)

    # --- reading and recovering --------------------------------------------------------------------------------

    def fetch(self, place: Place) -> bytes | None:
        """A record as it lies in a pack here; ``None`` when the pack is not here."""
        for suffix in (_SEALED, _OPEN, _SEALED):  # it may be sealed between two looks
            with contextlib.suppress(FileNotFoundError), open(self._folder / (place.pack + suffix), "rb") as file:
                return os.pread(file.fileno(), place.length, place.offset)
        return None

    def recover(self, packs: Sequence[Pack], committed: Collection[str]) -> None:
        """At a start: cut packs that were open to what the catalog knows, and seal them; set aside what it does not know.

        ``packs``: this node's open and sealed ones; ``committed``: ids of snapshots whose delta may be in them.
        """
        known = {pack.id: pack for pack in packs}
        with self._lock, _explained(self._folder):
            for path in sorted(self._folder.iterdir()):
                pack = known.get(path.stem)
                if path.suffix == _ORPHAN:
                    continue
                if pack is None or path.suffix not in (_OPEN, _SEALED):
                    path.rename(path.with_suffix(_ORPHAN))
                elif path.suffix == _SEALED:
                    size = path.stat().st_size
                    self._sealed[pack.id] = msgspec.structs.replace(pack, state="sealed", size=size)
                else:
                    self._reseal(path, pack, committed)

    def _reseal(self, path: Path, pack: Pack, committed: Collection[str]) -> None:
        os.truncate(path, pack.size)
        data = path.read_bytes()
        _, _, check = opened_header(data[: HEADER.size], str(path))
        sealer = Sealer(pack.id, self._keys, check)
        index = Index([], [])
        for kind, place in records(data):
            here = Place(pack.id, place.offset, place.length, place.raw)
            _, content = sealer.open(data[place.offset : place.offset + place.length], here)
            if kind == CHUNK:
                index.chunks.append((self._id_of(content), place.offset, place.length, place.raw))
                continue
            found = msgspec.msgpack.decode(content, type=DeltaRecord)
            if found.snapshot.id in committed:
                index.manifests.append(Described(found.volume.id, found.snapshot.number, found.snapshot.id, here))
        with open(path, "ab") as file:
            file.write(sealer.finish(len(data), index))
            file.flush()
            os.fsync(file.fileno())
        os.rename(path, self._folder / (pack.id + _SEALED))
        _sync_folder(self._folder)
        size = (self._folder / (pack.id + _SEALED)).stat().st_size
        self._sealed[pack.id] = msgspec.structs.replace(pack, state="sealed", size=size)

    def _id_of(self, content: bytes) -> bytes:
        return plain_id(content) if self._keys is None else self._keys.id_of(content)

    def close(self) -> None:
        """Let go of files and threads; what was not sealed is recovered at the next start."""
        with self._lock:
            for each in (*self._full, *([self._writing] if self._writing else [])):
                os.close(each.fd)
            self._full, self._writing = [], None
        self._pool.shutdown()


def plain_id(content: bytes | memoryview) -> bytes:
    """A chunk's id where nothing is encrypted: of a key that everybody knows."""
    return Keys(bytes(32)).id_of(content)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except RelitError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"cannot write to the spool {folder}", why=why, fix="free some space there") from error
        raise VolumeError(f"cannot use the spool {folder}", why=why, fix=f"ls -la {folder}") from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
