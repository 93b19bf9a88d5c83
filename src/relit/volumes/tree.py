"""A volume's current tree in memory, as the newest snapshot has it, and what follows from a change. Pure.

Entries are compact Structs; ids of long files are one bytes each. ``names`` answers what a folder holds without
looking at all paths, so that a vanished folder costs what was in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from relit.manifest import ID_BYTES, SEGMENT, Delta, Entry, Segment

_SPAN = SEGMENT * ID_BYTES


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A path as it was read: its entry (``parts`` empty when the content is long), and all its chunk ids."""

    entry: Entry
    ids: bytes = b""


class Tree:
    """What the newest snapshot holds."""

    def __init__(self, entries: Iterable[Entry] = (), segments: Iterable[Segment] = ()) -> None:
        self.entries: dict[bytes, Entry] = {}
        self._long: dict[bytes, bytes] = {}
        self._names: dict[bytes, set[bytes]] = {}
        self._inodes: dict[int, set[bytes]] = {}  # of files with several names
        self.bytes = 0
        for entry in entries:
            self._put(entry)
        pieces: dict[bytes, list[tuple[int, bytes]]] = {}
        for segment in segments:
            pieces.setdefault(segment.path, []).append((segment.no, segment.ids))
        for path, found in pieces.items():
            self._long[path] = b"".join(ids for _, ids in sorted(found))
        for entry in list(self.entries.values()):
            if entry.hard:
                self._inodes.setdefault(entry.ino, set()).update((entry.path, entry.hard))

    def __len__(self) -> int:
        return len(self.entries)

    def ids(self, path: bytes) -> bytes:
        """The chunk ids of a file's content; empty when there is none."""
        entry = self.entries.get(path)
        if entry is None:
            return b""
        return self._long.get(path, b"") if entry.count > SEGMENT else entry.parts

    def names(self, path: bytes) -> frozenset[bytes]:
        """The paths directly in a folder."""
        return frozenset(self._names.get(path, ()))

    def same_file(self, ino: int) -> frozenset[bytes]:
        """Paths that were names of that file, when it had several."""
        return frozenset(self._inodes.get(ino, ()))

    def delta(self, seen: Mapping[bytes, Seen | None]) -> Delta:
        """How this tree becomes what was seen; ``None``: the path is gone."""
        entries, segments, gone = [], [], []
        cut: list[tuple[bytes, int]] = []
        for path in sorted(seen):
            now, before = seen[path], self.entries.get(path)
            old = self.ids(path)
            if now is None:
                if before is not None:
                    gone.append(path)
                    cut += [(path, 0)] if before.count > SEGMENT else []
                continue
            if before is None or before != now.entry:
                entries.append(now.entry)
            more, less = _segments(path, old if before and before.count > SEGMENT else b"", now)
            segments += more
            cut += less
            if more and (not entries or entries[-1].path != path):
                entries.append(now.entry)
        return Delta(full=not self.entries, entries=entries, segments=segments, gone=gone, cut=cut)

    def apply(self, seen: Mapping[bytes, Seen | None]) -> None:
        """Take over what a committed snapshot saw."""
        for path, now in seen.items():
            self._drop(path)
            if now is not None:
                self._put(now.entry)
                if now.entry.count > SEGMENT:
                    self._long[path] = now.ids
        for path, now in seen.items():
            if now is not None and now.entry.hard:
                self._inodes.setdefault(now.entry.ino, set()).update((path, now.entry.hard))

    def _put(self, entry: Entry) -> None:
        self.entries[entry.path] = entry
        self.bytes += entry.size if entry.kind == "file" and not entry.hard else 0
        if entry.path:
            self._names.setdefault(entry.path.rpartition(b"/")[0], set()).add(entry.path)

    def _drop(self, path: bytes) -> None:
        entry = self.entries.pop(path, None)
        if entry is None:
            return
        self._long.pop(path, None)
        self.bytes -= entry.size if entry.kind == "file" and not entry.hard else 0
        _discard(self._names, path.rpartition(b"/")[0], path)
        _discard(self._inodes, entry.ino, path)


class View:
    """A tree together with what was seen since: what is known of a home before it is looked at again."""

    def __init__(self, tree: Tree, seen: Mapping[bytes, Seen | None] | None = None) -> None:
        self._tree = tree
        self._seen = seen or {}
        self._new = Tree(now.entry for now in self._seen.values() if now is not None)

    def entry(self, path: bytes) -> Entry | None:
        """What is known of a path."""
        if path in self._seen:
            return self._new.entries.get(path)
        return self._tree.entries.get(path)

    def entries(self) -> Iterator[Entry]:
        """All that is known."""
        yield from self._new.entries.values()
        yield from (entry for path, entry in self._tree.entries.items() if path not in self._seen)

    def names(self, path: bytes) -> frozenset[bytes]:
        """The paths directly in a folder."""
        both = self._tree.names(path) | self._new.names(path)
        return frozenset(name for name in both if self.entry(name) is not None) if self._seen else both

    def below(self, path: bytes) -> Iterator[bytes]:
        """Every path below a folder."""
        left = [path]
        while left:
            for child in self.names(left.pop()):
                yield child
                left.append(child)

    def same_file(self, ino: int) -> frozenset[bytes]:
        """Paths that are or were names of that file, when it has or had several."""
        return self._tree.same_file(ino) | self._new.same_file(ino)


def consistent(tree: Tree, seen: Mapping[bytes, Seen | None]) -> tuple[dict[bytes, Seen | None], set[bytes]]:
    """What was seen, as a tree that can be: (it, the paths that had to be left out and must be looked at again).

    While nobody stands still a folder may have become a symlink between the reading of what is in it and of itself,
    or a hard link's other name another file. One such path must not spoil the snapshot of all others.
    """
    sure = dict(seen)
    doubtful: set[bytes] = set()

    def entry(path: bytes) -> Entry | None:
        if path not in sure:
            return tree.entries.get(path)
        now = sure[path]
        return now.entry if now is not None else None

    def drop(path: bytes) -> None:
        sure[path] = None
        doubtful.add(path)

    for path in sorted(seen):
        now, above = entry(path), entry(path.rpartition(b"/")[0])
        if path and now is not None and (above is None or above.kind != "folder"):
            drop(path)
            now = None
        if tree.names(path) and (now is None or now.kind != "folder"):
            for below in View(tree).below(path):
                if below not in sure:
                    drop(below)
    for path in _further_names(tree, sure):
        now = entry(path)
        first = entry(now.hard) if now is not None and now.hard else None
        if now is not None and (first is None or first.hard or first.kind != "file" or first.ino != now.ino):
            drop(path)
    return sure, doubtful


def _further_names(tree: Tree, seen: Mapping[bytes, Seen | None]) -> list[bytes]:
    """Every path that may be a further name of a file that is among those seen."""
    hard = {path for path, now in seen.items() if now is not None and now.entry.hard}
    was = {tree.entries[path].ino for path in seen if path in tree.entries}
    others = {name for ino in was for name in tree.same_file(ino) if name not in seen}
    return sorted(hard | {name for name in others if name in tree.entries and tree.entries[name].hard})


Key = TypeVar("Key", bytes, int)


def _discard(holder: dict[Key, set[bytes]], key: Key, path: bytes) -> None:
    held = holder.get(key)
    if held is not None:
        held.discard(path)
        if not held:
            del holder[key]


def _segments(path: bytes, old: bytes, now: Seen) -> tuple[list[Segment], list[tuple[bytes, int]]]:
    """Changed segments of a long file, and from which number on the old ones end."""
    new = now.ids if now.entry.count > SEGMENT else b""
    if new == old:
        return [], []
    count, before = -(-len(new) // _SPAN), -(-len(old) // _SPAN)
    changed = [
        Segment(path, no, new[no * _SPAN : (no + 1) * _SPAN])
        for no in range(count)
        if new[no * _SPAN : (no + 1) * _SPAN] != old[no * _SPAN : (no + 1) * _SPAN]
    ]
    return changed, [(path, count)] if count < before else []


def split(ids: bytes) -> Sequence[bytes]:
    """A list of ids out of their bytes."""
    return [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]
