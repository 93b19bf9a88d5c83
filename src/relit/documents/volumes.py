"""What the HTTP API says of volumes and snapshots. Read them as ``documents.NAME``."""

from __future__ import annotations

from typing import Literal

import msgspec

from relit.manifest import EntryKind, Reason
from relit.store.values import EffectState, RunState
from relit.store.values import Messages as Messages

Mark = Literal["local", "stored"]


class Skipped(msgspec.Struct, kw_only=True):
    """A path that a snapshot leaves out, or that a restore did not make what it was, and why."""

    path: str
    why: str


class Snapshot(msgspec.Struct, kw_only=True):
    """A version of an agent's home. Paths here and below are text as ``relit.lib.names`` writes it.

    ``local_at``: it is on its node's disk; ``stored_at``: it is in the blob store. ``fresh``: bytes it added there.
    """

    id: str
    agent: str
    number: int
    at: int
    reason: Reason
    files: int = 0
    bytes: int = 0
    fresh: int = 0
    freeze_us: int = 0
    quiescent: bool = False
    note: str = ""
    skipped: list[Skipped] = []
    local_at: int | None = None
    stored_at: int | None = None
    pinned: bool = False
    tags: list[str] = []


class Snapshots(msgspec.Struct, kw_only=True):
    """A page of snapshots, newest first. ``next``: pass it as ``before`` for the next page; absent on the last."""

    snapshots: list[Snapshot]
    next: int | None = None


class Taken(msgspec.Struct, kw_only=True):
    """What became of a wish for a snapshot. ``created`` is false when nothing had changed: it is the newest one."""

    snapshot: Snapshot
    created: bool


class Volume(msgspec.Struct, kw_only=True):
    """An agent's home and its versions. ``error``: why its last snapshot failed, or that the home is gone."""

    agent: str
    node: str
    created_at: int
    origin: str = ""
    snapshots: int = 0
    newest: int = 0
    newest_at: int | None = None
    stored: int = 0
    files: int = 0
    bytes: int = 0
    packed: int = 0
    error: str = ""


class Damage(msgspec.Struct, kw_only=True):
    """Something that is not as it was written, what it takes with it, and what mends it."""

    what: str
    pack: str = ""
    agent: str = ""
    snapshots: list[int] = []
    paths: list[str] = []
    fix: str = ""


class Volumes(msgspec.Struct, kw_only=True):
    """All volumes. ``damage``: what checks found and no later check has found mended; what keeps upkeep from its work
    is there, too."""

    volumes: list[Volume]
    damage: list[Damage] = []


class File(msgspec.Struct, kw_only=True):
    """A path of a snapshot. ``mode``: permission bits; ``mtime_ns``: as the file system has it."""

    path: str
    kind: EntryKind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    target: str = ""
    hard: str = ""


class Files(msgspec.Struct, kw_only=True):
    """Paths of a snapshot in byte order."""

    snapshot: Snapshot
    files: list[File]


class Change(msgspec.Struct, kw_only=True):
    """A path that differs. ``text``: a unified diff; absent for what is not text, is too large or was not asked for."""

    path: str
    before: File | None = None
    after: File | None = None
    text: str | None = None


class Diff(msgspec.Struct, kw_only=True):
    """What differs between two snapshots; ``b`` is absent when it is the home as it is now."""

    agent: str
    a: int
    b: int | None
    changes: list[Change]


class SinceEffect(msgspec.Struct, kw_only=True):
    """An effect that was done, or may have been, after the moment that is restored. It stays done."""

    run: str
    pos: str
    name: str
    state: EffectState
    at: int


class SinceMessage(msgspec.Struct, kw_only=True):
    """A message that came, or was worked on, after the moment that is restored."""

    run: str
    state: RunState
    at: int
    superseded: int = 0  # steps after the moment that no longer count


class Restored(msgspec.Struct, kw_only=True):
    """What a restore did, or (``dry_run``) would do.

    ``before``: the snapshot taken just before it; ``number``: the one that records it. ``skipped``: what is not as it
    was then. ``replaced``: the folder in which files lie that it took out of the home, if any. ``effects`` and
    ``messages`` came after the moment; ``choice`` is what became of the messages, absent when only files were restored.
    """

    agent: str
    to: Snapshot
    dry_run: bool
    whole: bool = True
    written: list[str] = []
    removed: list[str] = []
    adjusted: list[str] = []  # only modes, times, owners
    skipped: list[Skipped] = []
    bytes: int = 0
    before: int | None = None
    number: int | None = None
    replaced: str = ""
    effects: list[SinceEffect] = []
    messages: list[SinceMessage] = []
    choice: Messages | None = None
    took_ms: int = 0


class Removed(msgspec.Struct, kw_only=True):
    """A volume that is forgotten. ``home``: where its home is, if there is one; ``put_away``: it was moved there."""

    agent: str
    home: str = ""
    put_away: bool = False


class Dropped(msgspec.Struct, kw_only=True):
    """A snapshot that a prune removes, or keeps: ``why``."""

    agent: str
    number: int
    at: int
    why: str


class Pruned(msgspec.Struct, kw_only=True):
    """What a prune did, or (``dry_run``) would do. ``condemned`` packs go when the grace is over; ``deleted`` went."""

    dry_run: bool
    dropped: list[Dropped]
    kept: list[Dropped] = []
    condemned: int = 0
    reprieved: int = 0
    deleted: int = 0
    repacked: int = 0
    bytes: int = 0
    unknown: int = 0  # packs in the blob store that the catalog does not know: never touched


class Verified(msgspec.Struct, kw_only=True):
    """What a check read and found. ``manifests``: volumes whose manifest was compared with packs."""

    snapshots: int
    packs: int
    chunks: int
    bytes: int
    manifests: int = 0
    restored: list[str] = []  # AGENT#NUMBER that were test-restored
    databases: int = 0
    damage: list[Damage] = []
    notes: list[str] = []  # what was not checked, and why


class Rebuilt(msgspec.Struct, kw_only=True):
    """What was put back into the catalog out of packs. ``mended``: agents whose manifest was not what packs tell."""

    volumes: int
    snapshots: int
    packs: int
    chunks: int
    mended: list[str] = []
    problems: list[str] = []


class VolumeStats(msgspec.Struct, kw_only=True):
    """Figures of one volume, or of all (``agent`` empty). ``packed``: bytes of the chunks referred to, as stored.

    ``spool``: bytes that wait for the blob store, the oldest of them since ``waiting_since``. ``requests``: to the blob
    store, for uploads since the start; ``uploaded``: snapshots that became stored by them.
    """

    agent: str
    snapshots: int
    files: int
    bytes: int
    entries: int
    chunks: int
    packed: int
    packs: dict[str, int] = {}
    pack_bytes: int = 0
    spool: int = 0
    waiting: int = 0
    waiting_since: int | None = None
    store: str = ""
    encrypted: bool = True
    key: str = ""  # the key's id, not the key
    requests: int = 0
    uploaded: int = 0
