"""What became of the paths that were touched: the names to go through, and which of them share one file. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from relit.volumes.base import Changes
from relit.volumes.scan import Home, same
from relit.volumes.tree import Tree

Looked = dict[bytes, os.stat_result | None]


def sweep(home: Home, tree: Tree) -> Looked:
    """Every path that does not look as the tree has it."""
    looked: Looked = {}
    met = set()
    for path, found in home.walk():
        met.add(path)
        entry = tree.entries.get(path)
        if entry is None or not same(entry, found):
            looked[path] = found
    looked.update((path, None) for path in tree.entries.keys() - met)
    return with_links(home, tree, looked)


def touched(home: Home, tree: Tree, changes: Changes, more: Iterable[bytes] = ()) -> Looked:
    """The paths that events name, with all that hangs on them. None of them is trusted to be as it was."""
    looked: Looked = {}
    for path in {*changes.paths, *more}:
        _one(home, tree, path, looked)
    for folder in changes.trees:
        looked.update(home.walk(folder))
        looked.update((path, home.look(path)) for path in (folder, *tree.below(folder)) if path not in looked)
    for path in list(looked):
        parent = path.rpartition(b"/")[0]
        if path and parent not in looked:
            looked[parent] = home.look(parent)
    return with_links(home, tree, looked)


def _one(home: Home, tree: Tree, path: bytes, looked: Looked) -> None:
    found = looked[path] = home.look(path)
    entry = tree.entries.get(path)
    if found is None or not stat.S_ISDIR(found.st_mode):
        looked.update((each, None) for each in tree.below(path))
        return
    if entry is None or entry.kind != "folder":
        looked.update(home.walk(path))
        return
    here = {path + b"/" + name if path else name for name in home.beneath.names(path)}
    for new in here - tree.names(path):
        looked.update(home.walk(new))
    for gone in tree.names(path) - here:
        looked.update((each, None) for each in (gone, *tree.below(gone)))


def with_links(home: Home, tree: Tree, looked: Looked) -> Looked:
    """Adds the other names of files that have, or had, several: which of them carries the content may have changed."""
    fresh = {found.st_ino for found in looked.values() if found is not None and _shared(found)}
    left = {entry.ino for path in looked if (entry := tree.entries.get(path)) is not None}
    names = {path for ino in fresh | left for path in tree.same_file(ino)}
    strange = {ino for ino in fresh if not tree.same_file(ino)}
    if strange:
        names |= {path for path, entry in tree.entries.items() if entry.ino in strange}
    for path in names - looked.keys():
        looked[path] = home.look(path)
    return looked


def firsts(looked: Looked) -> dict[bytes, bytes]:
    """For every further name of a file: the first one in byte order, which carries the content."""
    groups: dict[int, list[bytes]] = {}
    for path, found in looked.items():
        if found is not None and _shared(found):
            groups.setdefault(found.st_ino, []).append(path)
    return {path: first for group in groups.values() for first, *rest in [sorted(group)] for path in rest}


def _shared(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink > 1
