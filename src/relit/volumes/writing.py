"""Files written from their chunks: holes kept, owners, attributes, modes and times set. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import msgspec

from relit.errors import VolumeDamaged
from relit.lib.pages import Trail
from relit.manifest import ID_BYTES, Entry, Skipped
from relit.volumes.beneath import Beneath

_GROUP = 96  # files that are open at a time
_VECTORS = 512  # pieces in one system call
_XATTRS = msgspec.msgpack.Decoder(dict[bytes, bytes])

Data = bytes | memoryview
Laid = tuple[int, list[Skipped]]  # bytes written, and what was not permitted


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A whole new file at ``path``; or, ``at`` a byte of its content, a part of one that is there. ``ids``: of its
    chunks."""

    path: bytes
    entry: Entry
    ids: bytes
    at: int | None = None


def write_pieces(
    root: Beneath,
    pieces: Sequence[Piece],
    found: Mapping[bytes, Data],
    *,
    sync: bool = False,
    trail: Trail | None = None,
) -> Laid:
    """All of them, below ``root``; ``found``: their chunks. ``sync``: whole files are on the disk afterwards.
    ``trail``: they do not stay in memory."""
    written, missed = 0, list[Skipped]()
    for first in range(0, len(pieces), _GROUP):
        with ExitStack() as opened:
            made, fds, before = [], [], written
            for piece in pieces[first : first + _GROUP]:
                fd = root.create(piece.path) if piece.at is None else root.open(piece.path, os.O_WRONLY)
                opened.callback(os.close, fd)
                fds.append(fd)
                parts = [found[id] for id in split(piece.ids)]
                size, pour = sum(map(len, parts)), Pour(fd, piece.entry)
                pour.write(piece.at or 0, parts)
                written += size
                if piece.at is None:
                    pour.end(size)
                    missed += [Skipped(piece.entry.path, why) for why in dress(fd, piece.entry)]
                    made.append(fd)
            for fd in made if sync else ():  # the first one's wait brings most of the others to the disk, too
                os.fsync(fd)
            if trail is not None:
                opened.pop_all()
                trail.add(fds, written - before)
    return written, missed


def split(ids: bytes) -> Iterator[bytes]:
    """Chunk ids one by one."""
    return (ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES))


def ranges(size: int, holes: bytes) -> list[tuple[int, int]]:
    """Where a file has data: (offset, length). VolumeDamaged when its holes are not in order or outside of it."""
    found, at = [], 0
    for index in range(0, len(holes), 16):
        start = int.from_bytes(holes[index : index + 8], "little")
        length = int.from_bytes(holes[index + 8 : index + 16], "little")
        if start < at or start + length > size or len(holes) % 16:
            raise VolumeDamaged("a file's holes do not fit into it", fix="relit volume verify")
        if start > at:
            found.append((at, start - at))
        at = start + length
    if at < size:
        found.append((at, size - at))
    return found


class Pour:
    """Writes a file's content into its data ranges, piece by piece in any order."""

    def __init__(self, fd: int, entry: Entry) -> None:
        self._fd = fd
        self._entry = entry
        self._ranges = ranges(entry.size, entry.holes)
        self._size = sum(length for _, length in self._ranges)

    def write(self, at: int, parts: Sequence[Data]) -> None:
        """These pieces of the content, from its byte ``at`` on; holes do not count."""
        end = at + sum(map(len, parts))
        if end > self._size:
            raise self._wrong("more")
        for offset, length in self._ranges:
            if 0 <= at < length and end <= length:  # all of it, as nearly always
                write_all(self._fd, parts, offset + at)
                return
            if at < length:
                parts = self._first(parts, offset + max(at, 0), length - max(at, 0))
            at, end = at - length, end - length

    def _first(self, parts: Sequence[Data], offset: int, room: int) -> list[Data]:
        """Write what fits; answers what is left."""
        left: list[Data] = []
        for part in parts:
            view = memoryview(part)
            if room > 0:
                write_all(self._fd, [view[:room]], offset)
            left += [view[room:]] if len(view) > room else []
            offset, room = offset + min(len(view), room), max(0, room - len(view))
        return left

    def end(self, written: int) -> None:
        """So much was written in all: VolumeDamaged when it was too little."""
        if written < self._size:
            raise self._wrong("less")
        if self._entry.holes:
            os.ftruncate(self._fd, self._entry.size)

    def _wrong(self, what: str) -> VolumeDamaged:
        shown = os.fsdecode(self._entry.path)
        return VolumeDamaged(
            f"the chunks of {shown!r} hold {what} than its size of {self._entry.size}", fix="relit volume verify"
        )


def write_all(fd: int, parts: Sequence[Data], offset: int) -> None:
    """One after the other, with few system calls."""
    for first in range(0, len(parts), _VECTORS):
        some = parts[first : first + _VECTORS]
        size = sum(map(len, some))
        done = os.pwritev(fd, some, offset)
        while done < size:  # a signal, or no space: then the next one raises
            rest = b"".join(some)[done:]
            done += os.pwrite(fd, rest, offset + done)
        offset += size


def dress(path: str | int, entry: Entry) -> list[str]:
    """Give a file or folder its owner, attributes, mode and times. Answers what the system did not permit.

    The owner first (a change takes set-id bits and capabilities away), the times last.
    """
    missed = []
    now, mode = os.stat(path), entry.mode & 0o7777
    moved = (now.st_uid, now.st_gid) != (entry.uid, entry.gid)
    if moved:
        try:
            os.chown(path, entry.uid, entry.gid)
        except PermissionError as error:
            missed.append(f"owner: {error.strerror}")
    missed += set_xattrs(path, entry.xattrs)
    if moved or entry.xattrs or stat.S_IMODE(now.st_mode) != mode:
        os.chmod(path, mode)
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
    return missed


def set_xattrs(path: str | int, packed: bytes) -> list[str]:
    """Exactly these extended attributes; what is not permitted is answered."""
    wanted = _XATTRS.decode(packed) if packed else {}
    missed = []
    try:
        there = {os.fsencode(name) for name in os.listxattr(path)}
    except OSError:  # a filesystem without attributes
        there = set()
    for name in (*there, *wanted):
        try:
            if name in wanted:
                os.setxattr(path, name, wanted[name])
            elif name != b"security.selinux":
                os.removexattr(path, name)
        except OSError as error:
            missed.append(f"attribute {os.fsdecode(name)}: {error.strerror}")
    return missed
