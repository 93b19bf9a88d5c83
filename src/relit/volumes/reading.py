"""Reads what was touched: entries, chunk ids, and the contents of chunks that are not known. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from relit.errors import VolumeError
from relit.manifest import SEGMENT, Entry, Skipped
from relit.volumes import chunking
from relit.volumes.clones import Clones, Known, Postponed
from relit.volumes.look import Looked, firsts
from relit.volumes.scan import READ, UNREADABLE, Home, Unread, clipped, holes, kind_of, pack_holes, same, windows
from relit.volumes.tree import Seen, Tree, split

_TRIES = 3  # for a file that changes while it is read, with nobody standing still
_HEAD = 16
_NOTHING: Mapping[bytes, Seen] = MappingProxyType({})
_NEW = Known(frozenset(), 0)
Sink = Callable[[bytes, memoryview], None]


class Reader:
    """Turns paths into ``Seen``. ``arena`` is the window that contents pass through (16 KiB times something); ``ends``
    remembers files that grow."""

    def __init__(
        self, id_of: Callable[[memoryview], bytes], arena: memoryview, ends: chunking.Ends | None = None
    ) -> None:
        self._id_of = id_of
        self._arena = arena
        self._ends = ends or chunking.Ends()

    def see(
        self,
        home: Home,
        tree: Tree,
        looked: Looked,
        sink: Sink,
        early: dict[bytes, Seen | None] | None = None,
        clones: Clones | None = None,
        laid: Mapping[bytes, Seen] = _NOTHING,
    ) -> dict[bytes, Seen | None]:
        """Every looked-at path as it is now. ``sink`` gets chunks that neither the tree's nor ``early``'s version of
        the same file has; their memory is good only during the call. What was cloned is left to ``postponed``. A file
        of ``laid`` that looks untouched is as it says."""
        further = firsts(looked)
        seen: dict[bytes, Seen | None] = {}
        for path, found in looked.items():
            if found is None:
                seen[path] = None
            elif path in further:
                entry = home.entry(path, found)
                seen[path] = (
                    Seen(msgspec.structs.replace(entry, hard=further[path], size=found.st_size)) if entry else None
                )
            elif path in laid and _untouched(laid[path].entry, found):
                seen[path] = laid[path]
            elif kind_of(found) == "file":
                one = self._file(home, path, _known(tree, early or {}, path), sink, clones)
                if not isinstance(one, Postponed):
                    seen[path] = one
                elif clones is not None:
                    clones.postponed.append(one)
            else:
                entry = home.entry(path, found)
                seen[path] = Seen(entry) if entry else None
        for path in home.closed:
            if seen.get(path) is None:
                seen.pop(path, None)
        return seen

    def postponed(self, clones: Clones, sink: Sink) -> dict[bytes, Seen | None]:
        """The files that were cloned, read now. Raises OSError that names a file which cannot be."""
        seen: dict[bytes, Seen | None] = {}
        for each in clones.postponed:
            gaps = holes(each.clone, each.blocks)
            try:
                ids, total = self._chunks(each.entry.path, each.clone, each.size, gaps, each.old, sink)
            except Unread as error:
                raise OSError(error.error.errno, error.error.strerror, os.fsdecode(each.entry.path)) from error
            seen[each.entry.path] = Seen(self._entry(each.entry, ids, total, gaps), ids)
        return seen

    def _file(self, home: Home, path: bytes, old: Known, sink: Sink, clones: Clones | None) -> Seen | Postponed | None:
        try:
            fd = home.beneath.open(path, READ)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except VolumeError as error:  # a part of its path is a symlink by now
            home.skipped[path] = Skipped(path, error.why)
            return None
        except OSError as error:
            if error.errno in UNREADABLE:
                home.close(path, error)
            else:  # a symlink by now
                home.skipped[path] = Skipped(path, error.strerror or "not readable")
            return None
        try:
            cloned = None if clones is None else self._cloned(home, path, fd, old, clones)
            return cloned or self._content(home, path, fd, old, sink)
        except Unread as error:
            home.close(path, error.error)
            return None
        finally:
            os.close(fd)

    def _cloned(self, home: Home, path: bytes, fd: int, old: Known, clones: Clones) -> Postponed | None:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or (clone := clones.clone(fd, found.st_size)) is None:
            return None
        entry = home.entry(path, found, fd)
        if entry is None:
            os.close(clone)
            return None
        return Postponed(entry, clone, found.st_size, found, old)

    def _content(self, home: Home, path: bytes, fd: int, old: Known, sink: Sink) -> Seen | None:
        for _ in range(_TRIES):
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return None
            gaps = holes(fd, found)
            ids, total = self._chunks(path, fd, found.st_size, gaps, old, sink)
            again = os.fstat(fd)
            if (again.st_mtime_ns, again.st_ctime_ns, again.st_size) == (
                found.st_mtime_ns, found.st_ctime_ns, found.st_size
            ):  # fmt: skip
                break
        entry = home.entry(path, found, fd)
        if entry is None:
            return None
        return Seen(self._entry(entry, ids, total, gaps), ids)

    def _entry(self, entry: Entry, ids: bytes, total: int, gaps: Sequence[tuple[int, int]]) -> Entry:
        """What was read counts, if the file became shorter meanwhile."""
        count, size = len(ids) // 16, entry.size
        if gaps or total != size:
            size, gaps = clipped(size, gaps, total)
        return msgspec.structs.replace(
            entry,
            size=size,
            count=count,
            parts=ids if count <= SEGMENT else b"",
            holes=pack_holes(list(gaps)),
        )

    def _chunks(
        self, path: bytes, fd: int, size: int, gaps: list[tuple[int, int]], old: Known, sink: Sink
    ) -> tuple[bytes, int]:
        ids, total = bytearray(), 0
        for piece in self._pieces(path, fd, size, gaps, old.size):
            id = self._id_of(piece)
            ids += id
            total += len(piece)
            if id not in old.ids:
                sink(id, piece)
        return bytes(ids), total

    def _pieces(
        self, path: bytes, fd: int, size: int, gaps: list[tuple[int, int]], before: int
    ) -> Iterator[memoryview]:
        blocks: bool | None = None

        def cut(view: memoryview) -> list[int]:
            nonlocal blocks
            if blocks is None:
                blocks = chunking.is_database(path.rpartition(b"/")[2], bytes(view[:_HEAD]))
            return chunking.cuts(view, blocks=blocks)

        ends = self._ends.of(path, before, size) if not gaps else []
        at = 0
        for piece in windows(fd, size, gaps, self._arena, cut):
            if ends and not blocks and at + len(piece) == size:
                yield from self._ends.parts(path, piece, at, ends)
            else:
                yield piece
            at += len(piece)


def _known(tree: Tree, early: Mapping[bytes, Seen | None], path: bytes) -> Known:
    if path not in tree.entries and path not in early:
        return _NEW
    ids, entry, before = tree.ids(path), tree.entries.find(path), early.get(path)
    if before is not None:
        ids, entry = ids + before.ids, before.entry
    return Known(set(split(ids)), entry.size if entry is not None else 0)


def _untouched(entry: Entry, found: os.stat_result) -> bool:
    return same(entry, found) and (entry.uid, entry.gid) == (found.st_uid, found.st_gid)
