"""What a restore of a whole home keeps as it is now: tokens that are good for one use, sessions that others hold the
other end of. To put them back would be to lose them. Pure."""

from __future__ import annotations

from collections.abc import Collection

from relit.manifest import Entry
from relit.volumes.between import Trees
from relit.volumes.plan import within


def carried(trees: Trees, roots: Collection[bytes]) -> Trees:
    """The same without what lies at and below ``roots``, and without the end of folders that hold some of it."""
    mine = {entry.path for entry in trees.current if within(entry.path, roots)}
    if not mine and not any(within(entry.path, roots) for entry in trees.wanted):
        return trees
    folders = {entry.path for entry in trees.wanted if entry.kind == "folder"}
    stay = {above for path in mine for above in _above(path)} - folders
    current = [entry for entry in trees.current if _stays(entry, roots, stay)]
    wanted = [entry for entry in trees.wanted if _stays(entry, roots, stay)]
    return trees._replace(current=current, wanted=wanted)


def _stays(entry: Entry, roots: Collection[bytes], stay: Collection[bytes]) -> bool:
    return entry.path not in stay and not within(entry.path, roots)


def _above(path: bytes) -> set[bytes]:
    found = set()
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        found.add(path)
    return found
