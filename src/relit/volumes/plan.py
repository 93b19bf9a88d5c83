"""What a restore has to do: a tree as it is and the tree wanted in, ordered actions out. Pure.

Both sides may be whole trees, or only the paths that differ between them (``Catalog.changes``): what neither lists
stays as it is. Then every name of a hard-linked file must be listed when one of them is.

**Some paths only.** ``paths`` names files and folders; a folder stands for everything below it. Removed files come
back, changed ones become what they were, missing folders above them are made. Files that came *since* stay, as
``git checkout`` and ``restic restore --include`` have it, unless ``exact``. A database's ``-wal`` and ``-journal``
always go with it, also when that means to remove them: an old database under a new log is a broken one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from relit.errors import VolumeDamaged
from relit.manifest import ID_BYTES, SEGMENT, Entry, Segment

Op = Literal["aside", "folder", "write", "link", "hard", "meta", "settle"]
_RANK: Mapping[Op, int] = {"aside": 0, "folder": 1, "write": 2, "link": 2, "hard": 3, "meta": 4, "settle": 5}
SIDE_FILES = (b"-wal", b"-journal")
_CONFIG = (b".json", b".jsonc", b".json5", b".toml", b".yaml", b".yml", b".ini", b".conf", b".env", b".cfg")
_DATABASES = (b".db", b".sqlite", b".sqlite3", b".db-wal", b".sqlite-wal", b".sqlite3-wal", b"-journal")
_SMALL = 64 << 10


class Action(msgspec.Struct, frozen=True):
    """One thing to do. ``aside``: take ``was`` away; ``folder``, ``write``, ``link``, ``hard``: make ``entry`` instead
    of ``was`` (if any); ``meta``: only mode, owner, times, attributes differ; ``settle``: a folder's, at the end."""

    op: Op
    entry: Entry
    was: Entry | None = None


def names_of(entries: Iterable[Entry], paths: Collection[bytes] | None) -> dict[bytes, list[bytes]]:
    """The names of hard-linked files that a restore of ``paths`` is about, by the name that carries the content."""
    found: dict[bytes, list[bytes]] = {}
    for entry in entries:
        if entry.hard:
            found.setdefault(entry.hard, [entry.hard]).append(entry.path)
    return {first: [name for name in names if paths is None or within(name, paths)] for first, names in found.items()}


def contents(entries: Iterable[Entry], segments: Iterable[Segment]) -> dict[bytes, bytes]:
    """Each file's chunk ids, one after the other, by each of its names; VolumeDamaged when some are missing."""
    listed: dict[bytes, list[Segment]] = {}
    for segment in segments:
        listed.setdefault(segment.path, []).append(segment)
    files = [entry for entry in entries if entry.kind == "file"]
    found = {entry.path: _ids(entry, listed.get(entry.path, ())) for entry in files if not entry.hard}
    return found | {entry.path: found.get(entry.hard, b"") for entry in files if entry.hard}


def _ids(entry: Entry, segments: Sequence[Segment]) -> bytes:
    long = entry.count > SEGMENT and not entry.parts
    ids = b"".join(part.ids for part in sorted(segments, key=lambda part: part.no)) if long else entry.parts
    if len(ids) != entry.count * ID_BYTES:
        raise _damaged(entry.path, f"{len(ids) // ID_BYTES} of its {entry.count} chunks are listed")
    return ids


def _damaged(path: bytes, why: str) -> VolumeDamaged:
    return VolumeDamaged(
        f"the manifest of {path!r} does not add up", why=why, fix="relit volume verify; nothing was written"
    )


def check(wanted: Mapping[bytes, Entry]) -> None:
    """Nothing lies below a file or a symlink, and a hard link's content is a file of the tree. VolumeDamaged."""
    for path, entry in wanted.items():
        if entry.kind not in ("file", "folder", "link"):
            raise _damaged(path, f"its kind is {entry.kind!r}")
        above = wanted.get(path.rpartition(b"/")[0]) if b"/" in path else None
        if above is not None and above.kind != "folder":
            raise _damaged(path, f"{above.path!r}, above it, is a {above.kind}")
        if entry.hard:
            first = wanted.get(entry.hard)
            if entry.kind != "file" or first is None or first.kind != "file" or first.hard:
                raise _damaged(path, f"it is another name of {entry.hard!r}, which is no file here")


def priority(entry: Entry) -> tuple[int, int]:
    """What an agent needs to start comes first: configuration, databases, then small files, the newest first. It is
    held until everything is there all the same: what would be missing later is noticed before it starts."""
    if entry.size <= _SMALL and entry.path.endswith(_CONFIG):
        return (0, 0)
    if entry.path.endswith(_DATABASES):
        return (1, 0)
    return (2, -entry.mtime_ns) if entry.size <= _SMALL else (3, -entry.mtime_ns)


def plan(
    current: Iterable[Entry],
    wanted: Iterable[Entry],
    *,
    now: Mapping[bytes, bytes] | None = None,
    then: Mapping[bytes, bytes] | None = None,
    paths: Collection[bytes] | None = None,
    exact: bool = False,
) -> list[Action]:
    """The actions in the order in which they can be done.

    ``now`` and ``then``: chunk ids of files (``contents``); a file that is in neither is compared by its entry.
    Removals come first, the deepest ahead; then folders from above, files and symlinks by ``priority``, hard links,
    metadata, and last the folders' metadata from below: their times must outlive what was done in them.
    """
    have = {entry.path: entry for entry in current}
    want = {entry.path: entry for entry in wanted}
    check(want)
    if paths is not None:
        have, want = _only(have, want, paths, exact=exact)
    return sorted(_actions(have, want, now or {}, then or {}), key=_place)


def _place(action: Action) -> tuple[int, tuple[int, int], bytes]:
    rank = _RANK[action.op]
    depth = (action.entry.path.count(b"/") + 1) if action.entry.path else 0
    if action.op in ("aside", "settle"):
        return rank, (-depth, 0), action.entry.path
    if action.op == "folder":
        return rank, (depth, 0), action.entry.path
    return rank, priority(action.entry), action.entry.path


def _actions(
    have: Mapping[bytes, Entry], want: Mapping[bytes, Entry], now: Mapping[bytes, bytes], then: Mapping[bytes, bytes]
) -> list[Action]:
    actions = [Action("aside", was, was) for path, was in have.items() if path not in want]
    for path, entry in want.items():
        if not entry.hard:
            actions += _one(entry, have.get(path), now, then)
    made = {action.entry.path for action in actions if action.op == "write"}
    for path, entry in want.items():
        was = have.get(path)
        if entry.hard and (entry.hard in made or was is None or was.hard != entry.hard):
            actions.append(Action("hard", entry, was))
    return actions


def _one(entry: Entry, was: Entry | None, now: Mapping[bytes, bytes], then: Mapping[bytes, bytes]) -> list[Action]:
    same = was is not None and was.kind == entry.kind
    if entry.kind == "folder":
        if not same:
            return [Action("folder", entry, was), Action("settle", entry, was)]
        return [Action("settle", entry, was)] if was is None or _facts(was) != _facts(entry) else []
    if entry.kind == "link":
        make = not same or was is None or was.target != entry.target
        op: Op = "link"
    else:
        make = not same or was is None or bool(was.hard) or _content(was, now) != _content(entry, then)
        op = "write"
    if make:
        return [Action(op, entry, was)]
    return [Action("meta", entry, was)] if was is None or _facts(was) != _facts(entry) else []


def _content(entry: Entry, ids: Mapping[bytes, bytes]) -> tuple[int, bytes, bytes]:
    return entry.size, entry.holes, ids.get(entry.path, entry.parts)


def _facts(entry: Entry) -> tuple[int, int, int, int, bytes]:
    return entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.xattrs


def _only(
    have: dict[bytes, Entry], want: dict[bytes, Entry], paths: Collection[bytes], *, exact: bool
) -> tuple[dict[bytes, Entry], dict[bytes, Entry]]:
    """Both trees cut down to ``paths`` and what they need."""
    roots = {path.strip(b"/") for path in paths}
    chosen = {path for path in (*have, *want) if within(path, roots)}
    sides = _sides(chosen)
    keep = {path: want[path] for path in (chosen | sides) if path in want}
    for path in list(keep):
        _add_above(path, have, want, keep)
    gone = {path for path in chosen if exact or path in keep} | (sides - set(keep))
    return {path: have[path] for path in (gone | set(keep)) if path in have}, _own_links(keep, want)


def within(path: bytes, roots: Collection[bytes]) -> bool:
    """Whether a path is one of ``roots``, or lies below one."""
    if b"" in roots or path in roots:
        return True
    cut = path.rfind(b"/")
    while cut > 0:
        if path[:cut] in roots:
            return True
        cut = path.rfind(b"/", 0, cut)
    return False


def _sides(chosen: Collection[bytes]) -> set[bytes]:
    """The log files of chosen databases, and the databases of chosen log files."""
    found = {path + side for path in chosen for side in SIDE_FILES}
    bases = {path[: -len(side)] for path in chosen for side in SIDE_FILES if path.endswith(side)}
    return found | bases | {base + side for base in bases for side in SIDE_FILES}


def _add_above(path: bytes, have: Mapping[bytes, Entry], want: Mapping[bytes, Entry], keep: dict[bytes, Entry]) -> None:
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        entry, was = want.get(path), have.get(path)
        if entry is not None and (was is None or was.kind != "folder") and have:
            keep.setdefault(path, entry)


def _own_links(keep: dict[bytes, Entry], want: Mapping[bytes, Entry]) -> dict[bytes, Entry]:
    """When the name that carries a file's content is not restored, the first restored name carries it."""
    first: dict[bytes, bytes] = {}
    for path in sorted(keep):
        entry = keep[path]
        if not entry.hard or entry.hard in keep:
            continue
        carrier = first.setdefault(entry.hard, path)
        content = msgspec.structs.replace(want[entry.hard], path=path, ino=0, ctime_ns=0)
        keep[path] = content if carrier == path else msgspec.structs.replace(entry, hard=carrier)
    return keep
