"""What a snapshot is made of: values shared by the store, which keeps the manifest, and the volumes, which make it.

A volume's tree is kept as *intervals*: an entry row says "this path looked like this from snapshot ``since`` until
(not including) snapshot ``until``". A snapshot is then one number, and going back, comparing and forking are queries.

A file's content is a list of chunk ids. Up to ``SEGMENT`` of them stand in the entry itself; longer lists are cut
into segments of that many, each with an interval of its own, so that a changed block of a large database costs one
segment. Holes of sparse files are not part of the content: ``holes`` lists them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ID_BYTES = 16  # of a chunk id: keyed BLAKE3 of the content, cut to 128 bits
SEGMENT = 64  # chunk ids in a segment

EntryKind = Literal["file", "folder", "link"]
Reason = Literal["interval", "request", "turn", "restore", "before-restore", "fork", "rebuilt"]


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One path of a tree. ``path`` is relative to the home, ``/`` between parts; the home itself is ``b""``.

    ``parts``: the ids of its chunks, one after the other, when there are at most ``SEGMENT``; ``count`` is how many
    chunks the content has in all. ``hard``: the path of the entry whose file this is too (the first name in byte
    order carries the content). ``ino`` and ``ctime_ns`` tell on the same machine whether the file was touched.
    """

    path: bytes
    kind: EntryKind
    mode: int  # permission bits only
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0  # of a file, holes included
    count: int = 0
    parts: bytes = b""
    holes: bytes = b""  # pairs of little-endian u64: offset, length
    target: bytes = b""  # of a link
    hard: bytes = b""
    xattrs: bytes = b""  # msgpack map of bytes to bytes, keys in order; empty when there are none
    ino: int = 0
    ctime_ns: int = 0


class Segment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Chunk ids ``no * SEGMENT`` and following of a file with more than ``SEGMENT`` chunks."""

    path: bytes
    no: int
    ids: bytes


class Skipped(msgspec.Struct, frozen=True, array_like=True):
    """A path that a snapshot leaves out, and why (a socket, a FIFO, a device, vanished, unreadable)."""

    path: bytes
    why: str


KNOWN_GOOD = "known-good"  # a tag: the agent was healthy with it, and none of its runs was half done


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """How a tree differs from the snapshot before it. ``full``: from nothing.

    ``entries`` are new or changed; ``gone`` are paths that are there no more; ``cut`` ends all segments of a path
    from that number on (0: all of them), before ``segments`` are added.
    """

    full: bool = False
    entries: list[Entry] = []
    segments: list[Segment] = []
    gone: list[bytes] = []
    cut: list[tuple[bytes, int]] = []

    @property
    def empty(self) -> bool:
        """Whether nothing changed."""
        return not (self.full or self.entries or self.segments or self.gone or self.cut)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where the journal stood: an upper bound of what the agent had seen when its files were as in the snapshot."""

    event: str = ""  # the newest event of the store
    runs: dict[str, int] = {}  # the agent's unfinished runs: id → seq of the newest step


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a volume. ``number`` counts 1, 2, 3 … in its volume; ``id`` is unique everywhere.

    ``began_ms``: no file was read before that moment (0: not known); ``at_ms``: all files are as they were then.
    ``local_at_ms``: its pack is fsynced in the spool of its node. ``stored_at_ms``: everything it needs is in the blob
    store. ``delta``: where its manifest delta lies in a pack (``Place``), for rebuilding.
    """

    id: str
    volume: str
    number: int
    at_ms: int
    reason: Reason
    began_ms: int = 0
    files: int = 0
    bytes: int = 0  # sizes of all files
    fresh: int = 0  # bytes that it added to packs
    freeze_us: int = 0  # how long the agent stood still; 0: nothing was running
    quiescent: bool = False  # no run of the agent was unfinished
    position: Position = Position()
    note: str = ""
    skipped: list[Skipped] = []
    local_at_ms: int | None = None
    stored_at_ms: int | None = None
    pinned: bool = False
    tags: list[str] = []


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's home and all its versions. ``origin``: ``VOLUME@NUMBER`` that it was forked from."""

    id: str
    name: str  # the agent's
    node: str
    created_at_ms: int
    newest: int = 0  # number of the newest snapshot
    origin: str = ""


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a sealed record lies: ``length`` bytes at ``offset`` in a pack, ``raw`` bytes when opened."""

    pack: str
    offset: int
    length: int
    raw: int


PackState = Literal["open", "sealed", "stored", "condemned"]


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """One object of the blob store, or a file of a node's spool on its way there.

    ``size``: bytes that count (an open pack may have more behind them after a crash). A *condemned* pack will be
    deleted when its grace is over: nothing new may refer to it.
    """

    id: str  # 32 hex digits
    node: str
    state: PackState
    size: int
    created_at_ms: int
    stored_at_ms: int | None = None
    condemned_at_ms: int | None = None


class ObjectInfo(msgspec.Struct, frozen=True):
    """An object of the blob store."""

    key: str
    size: int
    modified_ms: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A path that differs between two snapshots; ``None``: not there."""

    path: bytes
    before: Entry | None
    after: Entry | None


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that makes a snapshot real, in one transaction.

    ``reused``: ids of chunks that were known before; the commit is refused when one of them stands in no pack but a
    condemned one by now. ``packs``: those written to, with their new sizes; ``into``: ids of all that hold its new
    chunks, which must not be condemned either. ``staged``: parts of the delta were staged before.
    """

    snapshot: Snapshot
    delta: Delta
    at: Place | None  # where the delta's record lies; None: it is written later (a fork)
    chunks: list[tuple[bytes, Place]] = []
    reused: list[bytes] = []
    packs: list[Pack] = []
    into: list[str] = []
    staged: bool = False


class ManifestRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row of the manifest as it lies in the store. ``no``: of a segment; -1: an entry. ``body``: msgpack of the
    entry, or the segment's chunk ids."""

    path: bytes
    no: int
    since: int
    until: int | None
    body: bytes


class Referrer(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a file that needs some chunk: in snapshots ``since`` until (not including) ``until``."""

    volume: str  # its name
    path: bytes
    since: int
    until: int | None


class VolumeStats(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a volume (or, with ``volume`` empty, of all)."""

    volume: str
    snapshots: int
    files: int
    bytes: int  # of the newest tree
    entries: int  # manifest rows
    chunks: int  # distinct chunks referred to
    packed: int  # bytes of those chunks in packs
