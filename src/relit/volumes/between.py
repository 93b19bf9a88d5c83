"""The paths in which a home differs from one of its snapshots, with all that a restore must know beside them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from relit.manifest import SEGMENT, Change, Entry, Segment, Snapshot
from relit.volumes.base import Catalog
from relit.volumes.tree import Tree


class Trees(NamedTuple):
    """The home now and as it shall be, with the segments of each; what neither lists stays as it is."""

    current: list[Entry]
    wanted: list[Entry]
    now: list[Segment]
    then: list[Segment]


async def between(catalog: Catalog, tree: Tree, newest: Snapshot, number: int) -> Trees:
    """``tree`` is that of the newest snapshot. Costs what differs, not what there is."""
    changes = {each.path: each for each in await catalog.changes(newest.volume, newest.number, number)}
    same = _beside(tree, changes) - changes.keys()
    current = [each.before for each in changes.values() if each.before] + [tree.entries[path] for path in same]
    wanted = [each.after for each in changes.values() if each.after] + [tree.entries[path] for path in same]
    return Trees(
        current,
        wanted,
        await catalog.segments(newest.volume, newest.number, _long(current)),
        await catalog.segments(newest.volume, number, _long(wanted)),
    )


def _long(entries: Collection[Entry]) -> list[bytes]:
    return [each.path for each in entries if each.count > SEGMENT]


def _beside(tree: Tree, changes: dict[bytes, Change]) -> set[bytes]:
    """The folders above what differs, and every other name of a file of which one name differs."""
    found: set[bytes] = set()
    for path, change in changes.items():
        found |= _above(path)
        for entry in (change.before, change.after):
            for name in (path, entry.hard if entry else b""):
                known = tree.entries.get(name)
                if known is not None and known.kind == "file":
                    found |= {name} | tree.same_file(known.ino)
    found |= {above for path in list(found) for above in _above(path)}
    return {path for path in found if path in tree.entries}


def _above(path: bytes) -> set[bytes]:
    found = {b""}
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        found.add(path)
    return found
