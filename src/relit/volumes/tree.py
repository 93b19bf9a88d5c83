"""A volume's current tree in memory, as the newest snapshot has it, and what follows from a change. Pure.

A process keeps the trees of hundreds of homes: entries are kept packed, some 300 bytes a path with everything, and what
a folder holds is found in the order of paths, without looking at all of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from relit.manifest import ID_BYTES, SEGMENT, Delta, Entry, Segment

_SPAN = SEGMENT * ID_BYTES
_MANY = 1000  # names added and gone from which on their order is made anew
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Entry).decode


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A path as it was read: its entry (``parts`` empty when the content is long), and all its chunk ids."""

    entry: Entry
    ids: bytes = b""


class Entries(Mapping[bytes, Entry]):
    """Entries by path. What is asked for is unpacked anew each time."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._rows = {entry.path: _pack(entry) for entry in entries}
        self._order: list[bytes] | None = None  # paths in byte order, once they were asked for

    def __getitem__(self, path: bytes) -> Entry:
        return _unpack(self._rows[path])

    def find(self, path: bytes) -> Entry | None:
        """What is known of a path."""
        row = self._rows.get(path)
        return None if row is None else _unpack(row)

    def __contains__(self, path: object) -> bool:
        return path in self._rows

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, entry: Entry) -> None:
        """Add or replace it."""
        if self._order is not None and entry.path not in self._rows:
            insort(self._order, entry.path)
        self._rows[entry.path] = _pack(entry)

    def drop(self, path: bytes) -> Entry | None:
        """Take it away; answers what it was."""
        row = self._rows.pop(path, None)
        if row is None:
            return None
        if self._order is not None:
            del self._order[bisect_left(self._order, path)]
        return _unpack(row)

    def many(self, count: int) -> None:
        """So many are about to come and go."""
        if count > _MANY:
            self._order = None

    def names(self, folder: bytes) -> Iterator[bytes]:
        """The paths directly in a folder. Each is found behind all that lies below the one before."""
        order, at, end, skip = self._within(folder)
        while at < end:
            cut = order[at].find(b"/", skip)
            path = order[at] if cut < 0 else order[at][:cut]
            if cut < 0:
                yield path
                at += 1
            else:
                at = bisect_left(order, path + b"0", at, end)

    def below(self, folder: bytes) -> list[bytes]:
        """Every path below a folder."""
        order, at, end, _ = self._within(folder)
        return order[at:end]

    def _within(self, folder: bytes) -> tuple[list[bytes], int, int, int]:
        """(paths in order, from where, until where, how long what they begin with is)."""
        if self._order is None:
            self._order = sorted(self._rows)
        if not folder:
            return self._order, bisect_left(self._order, b"\0"), len(self._order), 0
        start = folder + b"/"
        at = bisect_left(self._order, start)
        return self._order, at, bisect_left(self._order, folder + b"0", at), len(start)  # "0" comes next to "/"


class Tree:
    """What the newest snapshot holds."""

    def __init__(self, entries: Iterable[Entry] = (), segments: Iterable[Segment] = ()) -> None:
        self._long: dict[bytes, bytes] = {}
        self._inodes: dict[int, set[bytes]] = {}  # of files with several names
        self.bytes = 0
        self.entries = Entries(self._counted(entries))
        pieces: dict[bytes, list[tuple[int, bytes]]] = {}
        for segment in segments:
            pieces.setdefault(segment.path, []).append((segment.no, segment.ids))
        for path, found in pieces.items():
            self._long[path] = b"".join(ids for _, ids in sorted(found))

    def _counted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.hard:
                self._inodes.setdefault(entry.ino, set()).update((entry.path, entry.hard))
            elif entry.kind == "file":
                self.bytes += entry.size
            yield entry

    def __len__(self) -> int:
        return len(self.entries)

    def ids(self, path: bytes) -> bytes:
        """The chunk ids of a file's content; empty when there is none."""
        entry = self.entries.find(path)
        if entry is None:
            return b""
        return self._long.get(path, b"") if entry.count > SEGMENT else entry.parts

    def names(self, path: bytes) -> frozenset[bytes]:
        """The paths directly in a folder."""
        return frozenset(self.entries.names(path))

    def same_file(self, ino: int) -> frozenset[bytes]:
        """Paths that were names of that file, when it had several."""
        return frozenset(self._inodes.get(ino, ()))

    def delta(self, seen: Mapping[bytes, Seen | None]) -> Delta:
        """How this tree becomes what was seen; ``None``: the path is gone."""
        entries, segments, gone = [], [], []
        cut: list[tuple[bytes, int]] = []
        for path in sorted(seen):
            now, before = seen[path], self.entries.find(path)
            old = self._long.get(path, b"")
            if now is None:
                if before is not None:
                    gone.append(path)
                    cut += [(path, 0)] if before.count > SEGMENT else []
                continue
            more, less = _segments(path, old, now)
            if before is None or before != now.entry or more:
                entries.append(now.entry)
            segments += more
            cut += less
        return Delta(full=not self.entries, entries=entries, segments=segments, gone=gone, cut=cut)

    def sizes(self, seen: Mapping[bytes, Seen | None]) -> dict[bytes, int]:
        """Every path's bytes, once ``seen`` is applied."""
        sizes = {path: entry.size for path, entry in self.entries.items() if path not in seen}
        return sizes | {path: now.entry.size for path, now in seen.items() if now is not None}

    def apply(self, seen: Mapping[bytes, Seen | None]) -> None:
        """Take over what a committed snapshot saw."""
        self.entries.many(len(seen))
        for path, now in seen.items():
            self._forget(path, keep=now is not None)
            if now is not None:
                self.entries.put(now.entry)
                if now.entry.count > SEGMENT:
                    self._long[path] = now.ids
        for _ in self._counted(now.entry for now in seen.values() if now is not None):
            pass

    def move(self, entry: Entry, ino: int, ctime_ns: int) -> None:
        """What is known lies elsewhere, with another time of change, and is as it was."""
        path = entry.path
        if path in (names := self._inodes.get(entry.ino, set())):
            names.discard(path)
            if not names:
                del self._inodes[entry.ino]
            self._inodes.setdefault(ino, set()).add(path)
        self.entries.put(msgspec.structs.replace(entry, ino=ino, ctime_ns=ctime_ns))

    def _forget(self, path: bytes, *, keep: bool) -> None:
        """Take back what is counted of a path; ``keep``: its entry is about to be replaced."""
        entry = self.entries.find(path) if keep else self.entries.drop(path)
        if entry is None:
            return
        self._long.pop(path, None)
        self.bytes -= entry.size if entry.kind == "file" and not entry.hard else 0
        names = self._inodes.get(entry.ino)
        if names is not None:
            names.discard(path)
            if not names:
                del self._inodes[entry.ino]


class View:
    """A tree together with what was seen since: what is known of a home before it is looked at again."""

    def __init__(self, tree: Tree, seen: Mapping[bytes, Seen | None] | None = None) -> None:
        self._tree = tree
        self._seen = seen or {}
        self._new = Tree(now.entry for now in self._seen.values() if now is not None)

    def entry(self, path: bytes) -> Entry | None:
        """What is known of a path."""
        if path in self._seen:
            return self._new.entries.find(path)
        return self._tree.entries.find(path)

    def entries(self) -> Iterator[Entry]:
        """All that is known."""
        return (entry for path in self.paths() if (entry := self.entry(path)) is not None)

    def paths(self) -> Iterator[bytes]:
        """All that are known."""
        yield from self._new.entries
        yield from (path for path in self._tree.entries if path not in self._seen)

    def names(self, path: bytes) -> frozenset[bytes]:
        """The paths directly in a folder."""
        return frozenset(self._new.names(path) | {name for name in self._tree.names(path) if name not in self._seen})

    def below(self, path: bytes) -> Iterator[bytes]:
        """Every path below a folder."""
        yield from self._new.entries.below(path)
        yield from (name for name in self._tree.entries.below(path) if name not in self._seen)

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
            return tree.entries.find(path)
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
        was = tree.entries.find(path)
        if was is not None and was.kind == "folder" and (now is None or now.kind != "folder"):
            for below in tree.entries.below(path):
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
