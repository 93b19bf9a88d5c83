"""Calls under way, in files beside the database: what was asked, and what has passed of the answer. A gateway that is
killed leaves them to the next one, which writes down what was asked and counts what was said.

A call is there before it is sent, a piece of its answer before that is released. Both are copied into a mapped file and
not synced: what a process has written so outlives it, and costs no system call. After a power cut it may be gone.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import msgspec

from relit.gateway.headers import Pairs, plain
from relit.lib.ids import new_id
from relit.store.values import ModelCall

_LOG = logging.getLogger(__name__)
_SIZE = 64 << 10  # bytes of a file at first
_MOST = 32 << 20  # bytes of a call and its answer
_IDLE = 64  # files that are kept for calls to come
_READ_BY = frozenset({"content-type", "content-encoding"})
_BEGIN = struct.Struct("<QQ")  # what a file begins with: how many bytes follow that, and whether they are all


class Asked(msgspec.Struct, frozen=True):
    """What is sent. ``sent``: bytes of it."""

    call: ModelCall
    sent: int


class Head(msgspec.Struct, frozen=True):
    """What one must know to read an answer."""

    status: int
    headers: Pairs


class Left(msgspec.Struct, frozen=True):
    """What is left of a call whose gateway died. ``head`` is ``None`` when no answer had begun."""

    asked: Asked
    head: Head | None
    body: bytes
    whole: bool = False


class _File:
    """Mapped, and locked for as long as its process lives. OSError: the disk takes no more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = _SIZE
        self._end = _BEGIN.size
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._fd, 0, _SIZE)  # else the first touch of a full disk ends the process
            self._map = mmap.mmap(self._fd, _SIZE)
        except OSError:
            os.close(self._fd)
            _remove(path)
            raise

    def put(self, piece: bytes) -> None:
        """At its end. What is half there does not count yet."""
        end = self._end + len(piece)
        if end > self._size:
            self._grow(end)
        self._map[self._end : end] = piece
        self._end = end
        _BEGIN.pack_into(self._map, 0, end - _BEGIN.size, 0)

    def whole(self) -> None:
        """There is no more to come."""
        _BEGIN.pack_into(self._map, 0, self._end - _BEGIN.size, 1)

    def _grow(self, end: int) -> None:
        size = self._size
        while size < end:
            size *= 2
        os.posix_fallocate(self._fd, 0, size)
        self._map.resize(size)
        self._size = size

    def clear(self) -> bool:
        """Nothing in it counts. False: it has grown, and is not to be kept."""
        self._end = _BEGIN.size
        _BEGIN.pack_into(self._map, 0, 0, 0)
        return self._size == _SIZE

    def remove(self) -> None:
        """It is not needed any more."""
        self._map.close()
        os.close(self._fd)
        _remove(self._path)


class Track:
    """One call on its way. A disk that takes no more costs the track, not the call."""

    def __init__(self, spool: Spool, file: _File | None) -> None:
        self._spool = spool
        self._file = file
        self._size = 0

    @property
    def there(self) -> bool:
        """Whether the next gateway would find it."""
        return self._file is not None

    def head(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """An answer begins to come."""
        pairs = [(plain(name), plain(value)) for name, value in headers if name.lower() in _READ_BY]
        self.write(msgspec.json.encode(Head(status, pairs)) + b"\n")

    def write(self, piece: bytes) -> None:
        """A piece, before it is released."""
        self._size += len(piece)
        if self._file is None or self._size > _MOST:
            return
        try:
            self._file.put(piece)
        except OSError as error:
            _LOG.warning("an answer that comes cannot be kept beside the database: %s", error)
            self.remove()

    def whole(self) -> None:
        """All of the answer has come."""
        if self._file is not None and self._size <= _MOST:
            self._file.whole()

    def remove(self) -> None:
        """The call is written down. Safe twice."""
        file, self._file = self._file, None
        if file is not None:
            self._spool.take_back(file)


class Spool:
    """A folder of tracks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._idle: list[_File] = []
        self._found: list[tuple[Path, int]] = []

    def begin(self, asked: Asked) -> Track:
        """A call is about to be sent."""
        try:
            track = Track(self, self._idle.pop() if self._idle else _File(self.folder / new_id()))
        except OSError as error:
            _LOG.warning("%s cannot be written: %s", self.folder, error)
            return Track(self, None)
        track.write(msgspec.json.encode(asked) + b"\n")
        return track

    def take_back(self, file: _File) -> None:
        """For the next call."""
        if file.clear() and len(self._idle) < _IDLE:
            self._idle.append(file)
        else:
            file.remove()

    def left(self) -> list[Left]:
        """What gateways that are dead had under way. Nobody else finds it until it is ``forgotten``."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            paths = list(self.folder.iterdir())
        except OSError as error:
            _LOG.warning("%s cannot be used: %s", self.folder, error)
            return []
        return [found for each in paths if (found := self._left(each)) is not None]

    def _left(self, path: Path) -> Left | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            _LOG.warning("%s cannot be read, and stays: %s", path, error)
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = read(path.read_bytes())
        except OSError as error:
            os.close(fd)
            if not isinstance(error, BlockingIOError):  # else its gateway lives
                _LOG.warning("%s cannot be read, and stays: %s", path, error)
            return None
        self._found.append((path, fd))
        return found

    def forgotten(self) -> None:
        """All that was ``left`` is written down."""
        for path, fd in self._found:
            _remove(path)
            os.close(fd)
        self._found.clear()

    def stop(self) -> None:
        """Leave nothing that nobody needs."""
        for file in self._idle:
            file.remove()
        self._idle.clear()


def read(data: bytes) -> Left | None:
    """What a file holds; ``None``: nothing is under way, or nobody can tell what."""
    if len(data) < _BEGIN.size:
        return None
    size, whole = _BEGIN.unpack_from(data)
    used = data[_BEGIN.size :][:size]
    asked, _, rest = used.partition(b"\n")
    head, ended, body = rest.partition(b"\n")
    try:
        known = msgspec.json.decode(asked, type=Asked)
        return Left(known, msgspec.json.decode(head, type=Head) if ended else None, body, whole == 1)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _LOG.warning("%s cannot be removed: %s", path, error)
