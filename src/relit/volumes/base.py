"""What volumes need of others. The store, the drivers and the watchers do not know us: ``app`` binds them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from relit.manifest import (
    Change,
    Commit,
    Delta,
    Entry,
    ManifestRow,
    ObjectInfo,
    Pack,
    Place,
    Position,
    Referrer,
    Segment,
    Snapshot,
    Volume,
    VolumeStats,
)


class Catalog(Protocol):
    """The manifest, in relit's store. Every write is one transaction and may be asked again after a lost answer."""

    async def identity(self) -> str:
        """The store's id, made once and never changed."""
        ...

    async def generation(self) -> int:
        """1, and one more each time that this store was recovered elsewhere and goes on there."""
        ...

    # --- volumes -----------------------------------------------------------------------------------------------

    async def make_volume(self, volume: Volume) -> Volume:
        """Add it, or answer the one that has its name already."""
        ...

    async def volume(self, name: str) -> Volume:
        """By name. NotFound."""
        ...

    async def volumes(self) -> list[Volume]: ...

    async def remove_volume(self, name: str) -> None:
        """With all its snapshots; its chunks go with the next prune. Conflict while a snapshot is pinned."""
        ...

    # --- snapshots ---------------------------------------------------------------------------------------------

    async def stage(self, volume: str, number: int, delta: Delta) -> None:
        """Write part of a large delta ahead of its commit. Invisible until ``commit`` (intervals begin or end at
        ``number``, which is no snapshot yet)."""
        ...

    async def unstage(self, volume: str, number: int) -> None:
        """Take back what was staged for a snapshot that never came."""
        ...

    async def commit(self, commit: Commit) -> Snapshot:
        """Make a snapshot real. Conflict (retry helps): not the next number, or a reused chunk's pack is condemned
        or gone. Records the event ``snapshot.taken``."""
        ...

    async def fork(self, volume: str, number: int, new: Volume, snapshot: Snapshot) -> Snapshot:
        """Make volume ``new`` whose snapshot 1 is that tree. Conflict when the name is taken."""
        ...

    async def snapshots(
        self, volume: str, *, since_ms: int = 0, before: int | None = None, limit: int = 100
    ) -> list[Snapshot]:
        """Newest first, with tags; page with ``before`` (a number)."""
        ...

    async def snapshot(self, volume: str, number: int) -> Snapshot:
        """NotFound."""
        ...

    async def snapshot_at(self, volume: str, at_ms: int) -> Snapshot | None:
        """The newest that is not newer than that moment."""
        ...

    async def tagged(self, volume: str, tag: str) -> Snapshot | None: ...

    async def tag(self, volume: str, number: int, tag: str) -> None:
        """A tag names one snapshot of a volume: it moves. ``known-good`` may stand on many."""
        ...

    async def untag(self, volume: str, tag: str, number: int | None = None) -> None: ...

    async def pin(self, volume: str, number: int, pinned: bool) -> None: ...

    async def unstored(self, node: str) -> list[Snapshot]:
        """This node's snapshots without ``stored_at_ms``, oldest first."""
        ...

    async def undescribed(self, node: str) -> list[Snapshot]:
        """This node's snapshots (forks) whose delta was not written to a pack yet."""
        ...

    async def described_in(self, volume: str) -> dict[int, str]:
        """The packs in which the newest records of a volume's snapshots lie, by number."""
        ...

    async def described(self, volume: str, number: int, at: Place, packs: Sequence[Pack]) -> None:
        """The delta's record lies there now."""
        ...

    # --- trees -------------------------------------------------------------------------------------------------

    async def tree(
        self, volume: str, number: int, *, under: bytes = b"", after: bytes | None = None, limit: int = 2**31
    ) -> list[Entry]:
        """In byte order of paths. ``under``: that path and everything below it."""
        ...

    async def entry(self, volume: str, number: int, path: bytes) -> Entry | None: ...

    async def segments(self, volume: str, number: int, paths: Sequence[bytes]) -> list[Segment]:
        """Of these files, by path and number."""
        ...

    async def all_segments(self, volume: str, number: int) -> list[Segment]: ...

    async def changes(self, volume: str, a: int, b: int, *, under: bytes = b"") -> list[Change]:
        """Paths whose entry or segments differ between two snapshots, in byte order. Reads what changed, not both
        trees. A file whose segments alone differ has changed too (its entries then differ in ``mtime_ns`` or not)."""
        ...

    async def history(self, volume: str, path: bytes) -> list[tuple[int, int | None, Entry]]:
        """(since, until, entry) of one path, oldest first."""
        ...

    # --- chunks and packs --------------------------------------------------------------------------------------

    async def known(self, ids: Sequence[bytes], node: str) -> set[bytes]:
        """Those that may be referred to again: in a stored pack, or in one of this node's own; never a condemned."""
        ...

    async def places(self, ids: Sequence[bytes], node: str = "") -> dict[bytes, Place]:
        """Where they are, that node's own copy if it has one; an unknown id is left out."""
        ...

    async def packs(self, states: Sequence[str] = (), node: str | None = None) -> list[Pack]: ...

    async def put_packs(self, packs: Sequence[Pack]) -> None:
        """Add or replace (an open pack becomes sealed, its size final)."""
        ...

    async def stored(self, pack: str) -> list[Snapshot]:
        """The pack is in the blob store. Answers the snapshots that are ``stored`` by it: this node's earlier packs
        are all stored, too. Records ``snapshot.stored`` for each."""
        ...

    # --- prune -------------------------------------------------------------------------------------------------

    async def drop_snapshots(self, volume: str, numbers: Sequence[int]) -> list[int]:
        """Delete snapshots and the intervals that no remaining snapshot lies in; answers which went: the newest, and
        those that are pinned or tagged by now, stay."""
        ...

    def references(self, prefix: bytes = b"") -> AsyncIterator[bytes]:
        """Chunk ids that any interval refers to, staged ones too, and that begin with ``prefix``; possibly repeated."""
        ...

    async def chunks_of(self, pack: str) -> list[tuple[bytes, Place]]: ...

    async def condemn(self, packs: Sequence[str], at_ms: int) -> None:
        """First phase: nothing may refer to them anew."""
        ...

    async def reprieve(self, packs: Sequence[str]) -> None:
        """Take a condemnation back."""
        ...

    async def bury(self, pack: str) -> bool:
        """Second phase: forget a condemned pack and its chunks. False: it is not condemned."""
        ...

    async def referrers(self, ids: Collection[bytes]) -> list[Referrer]:
        """The files that need one of these chunks, in snapshots that there are: what is staged needs nothing yet. Reads
        every row, and passes over those that cannot be read: for reports of damage."""
        ...

    def rows(self, volume: str) -> AsyncIterator[list[ManifestRow]]:
        """The rows of a volume's manifest, unread, in pages: entries by path, then segments. Staged ones, too."""
        ...

    async def stats(self, volume: str = "") -> VolumeStats: ...

    # --- the journal -------------------------------------------------------------------------------------------

    async def position(self, agent: str) -> Position:
        """Where the agent's journal stands. Read while the agent is frozen: fast."""
        ...

    # --- rebuilding --------------------------------------------------------------------------------------------

    async def load(
        self,
        volume: Volume,
        snapshots: Sequence[tuple[Snapshot, Place | None]],
        entries: Sequence[tuple[int, int | None, Entry]],
        segments: Sequence[tuple[int, int | None, Segment]],
    ) -> None:
        """Put a whole volume with its intervals back, as read from packs. Conflict when the name is taken."""
        ...

    async def replace_trees(
        self,
        volume: str,
        newest: int,
        entries: Sequence[tuple[int, int | None, Entry]],
        segments: Sequence[tuple[int, int | None, Segment]],
    ) -> None:
        """Put these intervals in the place of all that the volume has. Overtaken when ``newest`` is not its newest
        snapshot any more. Nothing may be staged."""
        ...

    async def replace_chunks(self, pack: str, chunks: Sequence[tuple[bytes, Place]]) -> None:
        """These are what the pack holds, and nothing else. Nothing is done for an unknown pack."""
        ...

    async def clear(self, identity: str, generation: int) -> None:
        """Forget all volumes, chunks and packs, and be that store, of that generation, from now on: what is there is
        rebuilt from packs."""
        ...

    async def load_chunks(self, chunks: Sequence[tuple[bytes, Place]], packs: Sequence[Pack]) -> None:
        """Add chunks (or further copies of known ones) and their packs, ahead of a commit or for repacking."""
        ...


class Objects(Protocol):
    """Named contents in a folder or a bucket. Errors are ``RelitError``; ``retry`` says whether another try can help.

    An object is whole or not there. What was answered is durable.
    """

    url: str

    async def put(self, key: str, data: bytes, *, absent: bool = False) -> None:
        """Store. ``absent``: only if nothing is there (Conflict)."""
        ...

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file's content (a folder on the same filesystem may link it)."""
        ...

    async def get(self, key: str) -> bytes:
        """BlobMissing, StoreUnavailable."""
        ...

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """(offset, length) each, in one request where they lie close together. A short object is StoreCorrupt."""
        ...

    def local(self, key: str) -> Path | None:
        """The file that is, or would be, the object, when any process of this machine can read it."""
        ...

    async def head(self, key: str) -> ObjectInfo | None: ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """All below ``prefix``. Any error ends it with that error: a list is never silently short."""
        ...

    async def delete(self, key: str) -> None: ...


class Freezer(Protocol):
    """Holds still every process of one agent."""

    async def freeze(self) -> bool:
        """True: all stand still now. False: nothing is running. Raises ``FreezeFailed`` (and nothing is frozen)."""
        ...

    def pids(self) -> Collection[int] | None:
        """The processes that stand still now; ``None``: not known."""
        ...

    async def thaw(self) -> bool:
        """Let them go on. False: they had been let go before (the hold ran out): what was copied is not of one moment.
        Safe twice."""
        ...


class Changes(msgspec.Struct, frozen=True):
    """What was touched since it was last asked. ``everything``: events were lost, only a sweep tells.

    ``paths`` are relative to the home. A folder's own path means "its names changed"; ``trees`` are folders below
    which anything may have changed (moved in, or too much to tell). ``closed``: files of which nothing is known but
    that they were open for writing, and were closed.
    """

    paths: frozenset[bytes] = frozenset()
    trees: frozenset[bytes] = frozenset()
    everything: bool = False
    closed: frozenset[bytes] = frozenset()


class Watch(Protocol):
    """Change events of one home, from the moment it was made."""

    exact: bool  # False: no events to be had; every snapshot sweeps

    def drain(self) -> Changes:
        """All that happened before this call. Blocking, fast; called while the agent is frozen too."""
        ...

    def mapped(self, recent_s: float = 0.0, pids: Collection[int] | None = None) -> frozenset[bytes]:
        """Files below the home that some process has mapped shared and writable: stores there give no event.

        ``recent_s``: the answer may be that old, which is cheap when many homes ask. ``pids``: only these processes.
        """
        ...

    def mapped_inodes(self) -> frozenset[int]:
        """Of all that any process had mapped so, by whatever name, when all were asked last."""
        ...

    def close(self) -> None: ...


class Watcher(Protocol):
    """Watches many homes in one process."""

    def watch(self, home: Path, skip: Sequence[bytes] = ()) -> Watch:
        """Begin. ``skip``: folders below the home that need no watching. Falls back by itself when it may not."""
        ...

    def close(self) -> None: ...


class Holder(Protocol):
    """Stops an agent for a restore and lets it start again afterwards, crash or not."""

    async def hold(self, reason: str) -> None:
        """Return when no process of it runs any more; it will not be started while it is held."""
        ...

    async def release(self) -> None:
        """It may start. Safe twice."""
        ...


Homes = Mapping[str, Path]
