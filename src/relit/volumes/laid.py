"""What a restore has just laid down need not be read again for the snapshot that records it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from relit.manifest import Entry, Segment
from relit.volumes.plan import contents
from relit.volumes.restore import Restored
from relit.volumes.tree import Seen


def laid(entries: Sequence[Entry], segments: Sequence[Segment], done: Restored) -> dict[bytes, Seen]:
    """The files of a tree as they were laid, each with the inode and time of change that it got. What could not be
    made as it was is left out."""
    ids, skipped = contents(entries, segments), {each.path for each in done.skipped}
    found = {}
    for entry in entries:
        if entry.kind == "file" and not entry.hard and entry.path in done.facts and entry.path not in skipped:
            ino, ctime_ns = done.facts[entry.path]
            found[entry.path] = Seen(msgspec.structs.replace(entry, ino=ino, ctime_ns=ctime_ns), ids[entry.path])
    return found
