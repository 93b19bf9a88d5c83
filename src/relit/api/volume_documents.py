"""Values of the manifest as documents."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relit import documents
from relit.lib.names import shown
from relit.manifest import Entry, Skipped, Snapshot

if TYPE_CHECKING:  # commands that need none of it need not wait for it
    from relit.volumes.findings import Damage
    from relit.volumes.prune import Dropped, Pruned
    from relit.volumes.rebuild import Rebuilt
    from relit.volumes.verify import Verified

TEXT_MAX = 256 << 10  # bytes of a file that a diff shows
_LINES_MAX = 5_000


def snapshot(each: Snapshot, agent: str) -> documents.Snapshot:
    """A snapshot, as the API says it."""
    return documents.Snapshot(
        id=each.id, agent=agent, number=each.number, at=each.at_ms, reason=each.reason, files=each.files,
        bytes=each.bytes, fresh=each.fresh, freeze_us=each.freeze_us, quiescent=each.quiescent, note=each.note,
        skipped=[skipped(one) for one in each.skipped], local_at=each.local_at_ms, stored_at=each.stored_at_ms,
        pinned=each.pinned, tags=list(each.tags),
    )  # fmt: skip


def skipped(each: Skipped) -> documents.Skipped:
    """A path that was left out."""
    return documents.Skipped(path=shown(each.path), why=each.why)


def file(entry: Entry) -> documents.File:
    """A path of a tree."""
    return documents.File(
        path=shown(entry.path), kind=entry.kind, mode=entry.mode, uid=entry.uid, gid=entry.gid,
        mtime_ns=entry.mtime_ns, size=entry.size, target=shown(entry.target), hard=shown(entry.hard),
    )  # fmt: skip


def pruned(done: Pruned, *, dry_run: bool) -> documents.Pruned:
    """What a prune did."""
    return documents.Pruned(
        dry_run=dry_run, dropped=[_dropped(each) for each in done.dropped], kept=[_dropped(each) for each in done.kept],
        condemned=done.condemned, reprieved=done.reprieved, deleted=done.deleted, repacked=done.repacked,
        bytes=done.bytes, unknown=done.unknown,
    )  # fmt: skip


def _dropped(each: Dropped) -> documents.Dropped:
    return documents.Dropped(agent=each.agent, number=each.snapshot.number, at=each.snapshot.at_ms, why=each.why)


def damage(some: Sequence[Damage]) -> list[documents.Damage]:
    """What is damaged."""
    return [
        documents.Damage(
            what=each.what, pack=each.pack, agent=each.volume, snapshots=each.snapshots, paths=paths(each.paths),
            fix=each.fix,
        )
        for each in some
    ]  # fmt: skip


def verified(done: Verified, snapshots: int) -> documents.Verified:
    """What a check found."""
    return documents.Verified(
        snapshots=snapshots, packs=done.packs, chunks=done.chunks, bytes=done.bytes, manifests=done.manifests,
        restored=[f"{agent}#{number}" for agent, number in done.restored], databases=done.databases,
        damage=damage(done.damage), notes=done.notes,
    )  # fmt: skip


def rebuilt(done: Rebuilt) -> documents.Rebuilt:
    """What was put back."""
    return documents.Rebuilt(
        volumes=done.volumes, snapshots=done.snapshots, packs=done.packs, chunks=done.chunks, mended=done.mended,
        problems=done.problems,
    )  # fmt: skip


def paths(names: Sequence[bytes]) -> list[str]:
    """Names as text."""
    return [shown(name) for name in names]


def shows_text(entry: Entry | None) -> bool:
    """Whether a diff may show what is in it."""
    return entry is None or (entry.kind == "file" and entry.size <= TEXT_MAX)


def text_diff(before: bytes, after: bytes) -> str | None:
    """A unified diff; ``None`` when one of them is not text, or too long to compare."""
    try:
        old, new = before.decode().splitlines(keepends=True), after.decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return None
    if b"\0" in before or b"\0" in after or max(len(old), len(new)) > _LINES_MAX:
        return None
    return "".join(line if line.endswith("\n") else line + "\n" for line in difflib.unified_diff(old, new, n=3))
