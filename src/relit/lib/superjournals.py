"""SQLite's super-journals in a folder that was copied to another place.

A transaction over several attached databases commits by removing one file, the super-journal. Each database's rollback
journal ends with its full path; it lists the full paths of those journals. A journal whose super-journal is not there
counts as committed. So in a copy elsewhere a half-written transaction would stay as it is: databases that disagree, or
worse. Here the paths are made to point into the copy. The format: https://www.sqlite.org/fileformat2.html, section 3.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Collection, Iterable
from typing import BinaryIO

import msgspec

JOURNAL = b"-journal"
_MAGIC = bytes.fromhex("d9d505f920a163d7")
_END = struct.Struct(">II8s")  # length of the name, its sum, magic
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST = 1024  # SQLite opens no longer path


class _Super(msgspec.Struct, frozen=True):
    """The end of a journal: where the name begins in it, and the name."""

    at: int
    name: bytes
    signed: bool  # how the machine that wrote it sums bytes up


def relocate(folder: bytes, journals: Iterable[bytes], home: bytes, was: Collection[bytes] | None = None) -> int:
    """Let rollback journals, by their paths in ``folder``, say that they lie in ``home``; answers how many did not.

    ``was``: the folders that names may begin with to be changed, else any. Only where the super-journal is there, too.
    """
    changed = 0
    lists = set[tuple[bytes, bytes]]()
    for path in journals:
        opened = _open(folder, path)
        if opened is None:
            continue
        with opened as file:
            found = _read(file)
            place = _place(folder, found.name) if found else None
            if found is None or place is None:
                continue
            old = found.name[: -len(place)].rstrip(b"/")
            if old != home and (was is None or old in was):
                _write(file, found, os.path.join(home, place))
                lists.add((place, old))
                changed += 1
    for place, old in lists:
        opened = _open(folder, place)
        if opened is not None:
            with opened as file:
                _relist(file, old, home)
    return changed


def _open(folder: bytes, path: bytes) -> BinaryIO | None:
    """A regular file below the folder, reached without any link: the names are an agent's, and may be a trap."""
    *above, last = path.split(b"/")
    if len(path) > _LONGEST or {b"", b".", b".."} & {*above, last}:
        return None
    fd = os.open(folder, _FOLDER)
    try:
        for name in above:
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        file = os.fdopen(os.open(last, _FILE, dir_fd=fd), "r+b")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            return None
        raise
    finally:
        os.close(fd)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    return None


def _read(file: BinaryIO) -> _Super | None:
    """``None``: it names no super-journal, or not wholly."""
    size = file.seek(0, os.SEEK_END)
    if size < _END.size:
        return None
    file.seek(size - _END.size)
    length, total, magic = _END.unpack(file.read(_END.size))
    at = size - _END.size - length
    if magic != _MAGIC or not 0 < length <= _LONGEST or at < 0:
        return None
    file.seek(at)
    name = file.read(length)
    fitting = [signed for signed in (True, False) if _sum(name, signed) == total]
    return _Super(at, name, fitting[0]) if fitting else None


def _sum(name: bytes, signed: bool) -> int:
    """SQLite adds up the machine's ``char``."""
    return sum(each - 256 if signed and each > 127 else each for each in name) & 0xFFFFFFFF


def _place(folder: bytes, name: bytes) -> bytes | None:
    """Where in the folder that file is, if it is: the longest end of its name that exists there."""
    parts = name.split(b"/")
    for count in range(1, len(parts)):
        place = b"/".join(parts[count:])
        opened = _open(folder, place)
        if opened is not None:
            opened.close()
            return place
    return None


def _write(file: BinaryIO, found: _Super, name: bytes) -> None:
    file.seek(found.at)
    file.write(name + _END.pack(len(name), _sum(name, found.signed), _MAGIC))
    file.truncate()
    file.flush()
    os.fsync(file.fileno())


def _relist(file: BinaryIO, old: bytes, home: bytes) -> None:
    """The journals that a super-journal names lie in ``home`` now, as far as they lay in ``old``."""
    names = file.read().split(b"\0")
    moved = [home + name[len(old) :] if name.startswith(old + b"/") else name for name in names]
    file.seek(0)
    file.write(b"\0".join(moved))
    file.truncate()
    file.flush()
    os.fsync(file.fileno())
