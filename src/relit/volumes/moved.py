"""Where the files of a home are since it was laid anew.

Their inodes and times of change are not those of the manifest then, and all else is: no snapshot has to record that. It
is noted beside the home instead, as a hint: who does not find the note reads the files once more.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from relit.manifest import Entry, Segment, Volume
from relit.volumes.plan import contents
from relit.volumes.restore import Restored
from relit.volumes.tree import Tree

log = logging.getLogger("relit.volumes")
_SUM = 32
_LATE_MS = 1000  # far longer than files count as just touched


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A path's inode and time of change, as the manifest has them and as they are."""

    manifest: tuple[int, int]
    now: tuple[int, int]


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """Of a volume whose newest snapshot was ``number``. The home was laid whole by ``at_ms``, which counts until a
    snapshot tells when its files were read."""

    volume: str
    number: int
    at_ms: int
    places: dict[bytes, Place]

    def apply(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Entries of the manifest, placed where their files are. What changed since is as the manifest says."""
        for entry in entries:
            place = self.places.get(entry.path)
            if place is not None and (entry.ino, entry.ctime_ns) == place.manifest:
                entry = msgspec.structs.replace(entry, ino=place.now[0], ctime_ns=place.now[1])
            yield entry

    def others(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that are not noted, or were laid so late that they will be looked at again."""
        late_ns = (self.at_ms - _LATE_MS) * 1_000_000
        return [each for each in entries if (at := self.places.get(each.path)) is None or at.now[1] >= late_ns]


def remember(
    home: Path,
    volume: Volume,
    now_ms: int,
    tree: Tree,
    entries: Sequence[Entry],
    segments: Sequence[Segment],
    done: Restored,
) -> Moved:
    """Note where everything is that was laid just now (``entries``, as ``done`` tells), and is but for that as ``tree``
    has it: the newest one of the volume. The tree has it so from now on."""
    earlier = noted(home, volume)
    top = os.stat(home)  # it was renamed since
    facts = {**done.facts, b"": (top.st_ino, top.st_ctime_ns)}
    skipped = {each.path for each in done.skipped}
    kept = [entry for entry in entries if entry.path in facts and entry.path not in skipped]
    places = _move(tree, kept, contents(entries, segments), facts, earlier.places if earlier is not None else {})
    found = Moved(volume.id, volume.newest, now_ms, places)
    try:
        data = msgspec.msgpack.encode(found)
        _draft(home).write_bytes(blake3(data).digest(_SUM) + data)
        os.replace(_draft(home), _record(home))
    except OSError as error:
        log.warning("%s was not written, so that files are read once more: %s", _record(home), error)
        with contextlib.suppress(OSError):  # an older note says nothing that is wrong
            tidy(home)
    return found


def _move(
    tree: Tree,
    entries: Sequence[Entry],
    ids: Mapping[bytes, bytes],
    facts: Mapping[bytes, tuple[int, int]],
    earlier: Mapping[bytes, Place],
) -> dict[bytes, Place]:
    """Move in the tree whatever it knows as it was laid; answers the places."""
    places = {}
    for entry in entries:
        path, known = entry.path, tree.entries.find(entry.path)
        if known is None or msgspec.structs.replace(entry, ino=known.ino, ctime_ns=known.ctime_ns) != known:
            continue
        if entry.hard or ids.get(path, b"") == tree.ids(path):
            there, was = (known.ino, known.ctime_ns), earlier.get(path)
            places[path] = Place(was.manifest if was is not None and was.now == there else there, facts[path])
            tree.move(known, *facts[path])
    return places


def noted(home: Path, volume: Volume) -> Moved | None:
    """What was noted of that volume's home; ``None`` when it is of no use."""
    try:
        text = _record(home).read_bytes()
        if blake3(text[_SUM:]).digest(_SUM) != text[:_SUM]:  # a power cut
            return None
        found = msgspec.msgpack.decode(text[_SUM:], type=Moved)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s cannot be read, so that its files are read once more: %s", _record(home), error)
        return None
    return found if found.volume == volume.id and found.number <= volume.newest else None


def forget(home: Path) -> None:
    """Of a home that is no more."""
    _record(home).unlink(missing_ok=True)


def tidy(home: Path) -> None:
    """Take away what a killed process was writing."""
    _draft(home).unlink(missing_ok=True)


def _record(home: Path) -> Path:
    return home.with_name(f".{home.name}.laid")


def _draft(home: Path) -> Path:
    return home.with_name(f".{home.name}.laid.new")
