"""What is in a home: paths, their facts, and contents in pieces. Blocking; nothing outside the home is ever opened."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence

import msgspec

from relit.errors import VolumeError
from relit.manifest import Entry, EntryKind, Skipped
from relit.volumes.beneath import LONGEST, Beneath
from relit.volumes.ignore import Ignore

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_HOLE = struct.Struct("<QQ")
_BLOCK = 512  # unit of st_blocks
_ODD = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}
# What there is cannot be had. Other errors (no descriptors left, no memory) are of the whole process.
UNREADABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EREMOTEIO, errno.ESTALE, errno.ENOTCONN}
)
AS_BEFORE = "what earlier snapshots have of it stays"
Found = tuple[bytes, os.stat_result]


class Unread(Exception):
    """A file's content cannot be had, for the reason ``error``."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class Home:
    """One home, opened for looking. ``skipped`` fills with what cannot be part of a snapshot; ``closed`` with those of
    it that cannot be read: what is known at and below them stays as it was, what is not known stays out."""

    def __init__(self, beneath: Beneath, ignore: Ignore) -> None:
        self.beneath = beneath
        self.ignore = ignore
        self.skipped: dict[bytes, Skipped] = {}
        self.closed: set[bytes] = set()
        root = beneath.lstat(b"")
        if root is None:
            raise FileNotFoundError(errno.ENOENT, "the home is gone")
        self._device = root.st_dev

    def look(self, path: bytes) -> os.stat_result | None:
        """What is there, if a snapshot takes it."""
        if path and (self.ignore.below(path) or self.hides(path)):
            return None
        try:
            found = self.beneath.lstat(path)
        except OSError as error:
            self.close(self._barred(path) if error.errno == errno.EACCES else path, error)
            return None
        return found if found is not None and self._takes(path, found) else None

    def hides(self, path: bytes) -> bool:
        """Whether it lies below what cannot be read."""
        while path and self.closed:
            path = path.rpartition(b"/")[0]
            if path in self.closed:
                return True
        return False

    def close(self, path: bytes, error: OSError) -> None:
        """Leave it as it was, and say why. Raises the error when it is not that path's alone."""
        if not path or error.errno not in UNREADABLE:
            raise error
        self.closed.add(path)
        self._skip(path, f"{error.strerror}; {AS_BEFORE}")

    def _barred(self, path: bytes) -> bytes:
        """The uppermost folder on the way there that nobody lets us through."""
        end = path.find(b"/")
        while end != -1:
            folder, end = path[:end], path.find(b"/", end + 1)
            try:
                self.beneath.lstat(path[:end] if end != -1 else path)
            except PermissionError:
                return folder
        return path

    def walk(self, under: bytes = b"") -> Iterator[Found]:
        """Every path at and below a folder that a snapshot takes, folders before what is in them."""
        found = self.look(under)
        if found is None:
            return
        yield under, found
        if stat.S_ISDIR(found.st_mode):
            yield from self._below(under)

    def names(self, folder: bytes) -> list[bytes]:
        """What a folder holds."""
        return [name for name, _ in self._entries(folder)]

    def _below(self, folder: bytes) -> Iterator[Found]:
        left = [folder]
        while left:
            above = left.pop()
            prefix = above + b"/" if above else b""
            for name, found in self._entries(above):
                path = prefix + name
                if self._takes(path, found):
                    yield path, found
                    if stat.S_ISDIR(found.st_mode):
                        left.append(path)

    def _entries(self, folder: bytes) -> list[tuple[bytes, os.stat_result]]:
        try:
            fd = self.beneath.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except VolumeError as error:  # a part of its path is a symlink by now
            self._skip(folder, error.why)
            return []
        except OSError as error:
            self.close(folder, error)
            return []
        try:
            with os.scandir(fd) as found:
                return [entry for each in found if (entry := self._known(folder, each)) is not None]
        except OSError as error:
            self.close(folder, error)
            return []
        finally:
            os.close(fd)

    def _known(self, folder: bytes, each: os.DirEntry[str]) -> tuple[bytes, os.stat_result] | None:
        """A name and what it is. PermissionError: the folder's names may be read, and no more."""
        name = os.fsencode(each.name)
        try:
            return name, each.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        except PermissionError:
            raise
        except OSError as error:
            self.close(folder + b"/" + name if folder else name, error)
            return None

    def _takes(self, path: bytes, found: os.stat_result) -> bool:
        kind = stat.S_IFMT(found.st_mode)
        if len(path) > LONGEST:
            self._skip(path[:LONGEST], "its path is too long")
            return False
        if path and self.ignore.leaves_out(path, kind == stat.S_IFDIR):
            return False
        if found.st_dev != self._device:
            self._skip(path, "another filesystem is mounted there")
            return False
        if (odd := _ODD.get(kind)) is not None:
            self._skip(path, odd)
            return False
        return True

    def _skip(self, path: bytes, why: str) -> None:
        self.skipped[path] = Skipped(path, why)

    def entry(self, path: bytes, found: os.stat_result, fd: int | None = None) -> Entry | None:
        """Its facts, without content; ``None`` when it vanished meanwhile, or they cannot be read (see ``closed``)."""
        kind = kind_of(found)
        try:
            target = self.beneath.readlink(path) if kind == "link" else b""
            xattrs = self._xattrs(path) if fd is None else _xattrs(fd)
        except VolumeError:  # a part of its path is a symlink by now
            return None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ELOOP):
                return None
            self.close(path, error)
            return None
        return Entry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid,
            gid=found.st_gid,
            mtime_ns=found.st_mtime_ns,
            size=found.st_size if kind == "file" else 0,
            target=target,
            xattrs=xattrs,
            ino=found.st_ino,
            ctime_ns=found.st_ctime_ns,
        )

    def _xattrs(self, path: bytes) -> bytes:
        with self.beneath.pinned(path) as (fd, found):
            return b"" if stat.S_ISLNK(found.st_mode) else _xattrs(b"/proc/self/fd/%d" % fd)


def _xattrs(place: int | bytes) -> bytes:
    """As ``Entry.xattrs`` has them."""
    try:
        if not (names := os.listxattr(place)):
            return b""
        held = {os.fsencode(name): os.getxattr(place, name) for name in sorted(names)}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return b""
        raise
    return msgspec.msgpack.encode(held) if held else b""


def kind_of(found: os.stat_result) -> EntryKind:
    """Which of the three kinds a snapshot knows."""
    if stat.S_ISDIR(found.st_mode):
        return "folder"
    return "link" if stat.S_ISLNK(found.st_mode) else "file"


def same(entry: Entry, found: os.stat_result) -> bool:
    """Whether a path looks untouched since its entry was made."""
    return (
        entry.ctime_ns == found.st_ctime_ns
        and entry.ino == found.st_ino
        and entry.mtime_ns == found.st_mtime_ns
        and (entry.kind != "file" or entry.size == found.st_size)
        and entry.kind == kind_of(found)
        and entry.mode == found.st_mode & 0o7777
    )


def holes(fd: int, found: os.stat_result) -> list[tuple[int, int]]:
    """(offset, length) of a sparse file's holes."""
    if found.st_blocks * _BLOCK >= found.st_size:
        return []
    gaps: list[tuple[int, int]] = []
    at = 0
    while at < found.st_size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return []  # a filesystem that does not tell: all of it is content
            data = found.st_size
        data = min(data, found.st_size)
        if data > at:
            gaps.append((at, data - at))
        if data >= found.st_size:
            break
        try:
            at = os.lseek(fd, data, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # it became shorter meanwhile
    return gaps


def pack_holes(gaps: list[tuple[int, int]]) -> bytes:
    """As ``Entry.holes`` has them."""
    return b"".join(_HOLE.pack(offset, length) for offset, length in gaps)


def ranges(size: int, gaps: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is content."""
    at = 0
    for offset, length in gaps:
        if offset > at:
            yield at, offset - at
        at = offset + length
    if size > at:
        yield at, size - at


def clipped(size: int, gaps: Sequence[tuple[int, int]], total: int) -> tuple[int, list[tuple[int, int]]]:
    """(size, holes) of a file of that size and with those holes, of which ``total`` bytes of content were read."""
    at = 0
    kept: list[tuple[int, int]] = []
    for offset, length in gaps:
        if total < offset - at:
            return at + total, kept
        total -= offset - at
        kept.append((offset, length))
        at = offset + length
    return at + min(total, size - at), kept


def windows(
    fd: int, size: int, gaps: list[tuple[int, int]], arena: memoryview, cut: Callable[[memoryview], list[int]]
) -> Iterator[memoryview]:
    """A file's content in chunks, read through ``arena``; a chunk is valid until the next one is asked for.

    A chunk at the end of a full window may go on in the file: it is carried over into the next window. Raises Unread.
    """
    held = 0
    for offset, length in ranges(size, gaps):
        done = 0
        while done < length:
            room = min(len(arena) - held, length - done)
            try:
                got = os.preadv(fd, [arena[held : held + room]], offset + done)
            except OSError as error:
                raise Unread(error) from error
            if got == 0:
                break  # it became shorter meanwhile: what is there counts
            held, done = held + got, done + got
            if held == len(arena):
                lengths = cut(arena[:held])
                keep = lengths.pop() if len(lengths) > 1 else 0
                yield from _pieces(arena, lengths)
                arena[:keep] = bytes(arena[held - keep : held])
                held = keep
    if held:
        yield from _pieces(arena, cut(arena[:held]))


def _pieces(arena: memoryview, lengths: list[int]) -> Iterator[memoryview]:
    at = 0
    for length in lengths:
        yield arena[at : at + length]
        at += length
