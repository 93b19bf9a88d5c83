"""What became of the paths that were touched: the names to go through, and which of them share one file. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

from relit.volumes.base import Changes
from relit.volumes.scan import Home, same
from relit.volumes.tree import View

Looked = dict[bytes, os.stat_result | None]
_NEVER = 1 << 63  # no file was touched as late as that


def sweep(home: Home, known: View, settled_ns: int = _NEVER) -> Looked:
    """Every path that does not look as it is known. What was touched at ``settled_ns`` or later counts as changed:
    a further write in the same tick of the kernel's clock leaves no trace."""
    looked: Looked = {}
    met = set()
    for path, found in home.walk():
        met.add(path)
        entry = known.entry(path)
        if entry is None or not same(entry, found) or found.st_ctime_ns >= settled_ns:
            looked[path] = found
    looked.update((path, None) for path in known.paths() if path not in met)
    return _open(home, known, with_links(home, known, looked))


def touched(home: Home, known: View, changes: Changes, unwritten: Collection[bytes] = ()) -> Looked:
    """The paths that events name, with all that hangs on them. None of them is trusted to be as it was, but for those
    that are known to be ``unwritten``."""
    looked: Looked = {}
    for path in changes.paths | changes.closed.difference(unwritten):
        _one(home, known, path, looked)
    for folder in changes.trees:
        looked.update(home.walk(folder))
        looked.update((path, home.look(path)) for path in (folder, *known.below(folder)) if path not in looked)
    for path in list(looked):
        parent = path.rpartition(b"/")[0]
        if path and parent not in looked:
            _folder(home, known, parent, looked)
    return _open(home, known, with_links(home, known, looked))


def _open(home: Home, known: View, looked: Looked) -> Looked:
    """Without what cannot be read: it is neither changed nor gone. But a known folder's own facts count."""
    if not home.closed:
        return looked

    def counts(path: bytes, found: os.stat_result | None) -> bool:
        if path not in home.closed:
            return not home.hides(path)
        entry = known.entry(path)
        return found is not None and entry is not None and entry.kind == "folder"

    return {path: found for path, found in looked.items() if counts(path, found)}


def _folder(home: Home, known: View, path: bytes, looked: Looked) -> None:
    """A folder in which something was touched: its times and mode. Whatever changes them changes its ctime."""
    found, entry = home.look(path), known.entry(path)
    if found is None or entry is None or not same(entry, found):
        looked[path] = found


def _one(home: Home, known: View, path: bytes, looked: Looked) -> None:
    found = looked[path] = home.look(path)
    entry = known.entry(path)
    if found is None or not stat.S_ISDIR(found.st_mode):
        if entry is not None and entry.kind == "folder":
            looked.update((each, None) for each in known.below(path))
        return
    if entry is None or entry.kind != "folder":
        looked.update(home.walk(path))
        return
    here = {path + b"/" + name if path else name for name in home.names(path)}
    for new in here - known.names(path):
        looked.update(home.walk(new))
    for gone in known.names(path) - here:
        looked.update((each, None) for each in (gone, *known.below(gone)))


def with_links(home: Home, known: View, looked: Looked) -> Looked:
    """Adds the other names of files that have, or had, several: which of them carries the content may have changed."""
    fresh = {found.st_ino for found in looked.values() if found is not None and _shared(found)}
    left = {entry.ino for path in looked if (entry := known.entry(path)) is not None}
    names = {path for ino in fresh | left for path in known.same_file(ino)}
    strange = {ino for ino in fresh if not known.same_file(ino)}
    if strange:
        names |= {entry.path for entry in known.entries() if entry.ino in strange}
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
