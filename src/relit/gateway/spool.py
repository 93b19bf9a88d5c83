"""What has passed of an answer, in a file beside the database. A gateway that is killed leaves it to the next one,
which counts what was said.

It is written before a piece is released, and not synced: what a process has written outlives it. After a power cut it
may be gone, and the call counts as what was reserved for it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from relit.gateway.headers import Pairs, plain

_LOG = logging.getLogger(__name__)
_MOST = 32 << 20  # bytes of an answer
_READ_BY = frozenset({"content-type", "content-encoding"})


class Head(msgspec.Struct, frozen=True):
    """What one must know to read an answer. ``sent``: bytes of the call."""

    status: int
    headers: Pairs
    sent: int


class Left(msgspec.Struct, frozen=True):
    """What is left of a call whose gateway died."""

    head: Head
    body: bytes


class Track:
    """One answer on its way. A disk that takes no more costs the track, not the answer."""

    def __init__(self, path: Path, head: Head) -> None:
        self._path = path
        self._size = 0
        self._fd: int | None = None
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._lost(error)
        self._put(msgspec.json.encode(head) + b"\n")

    def write(self, piece: bytes) -> None:
        """A piece, before it is released."""
        self._size += len(piece)
        if self._size <= _MOST:
            self._put(piece)

    def _put(self, piece: bytes) -> None:
        if self._fd is None:
            return
        try:
            if os.write(self._fd, piece) < len(piece):
                self._lost(OSError("the disk is full"))
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        _LOG.warning("%s cannot be written: %s", self._path, error)
        self.remove()

    def close(self) -> None:
        """Leave it where it is. Safe twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def remove(self) -> None:
        """The call is written down. Safe twice."""
        self.close()
        _remove(self._path)


class Spool:
    """A folder of tracks, by the ids of their calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, call: str, status: int, headers: Iterable[tuple[str, str]], sent: int) -> Track:
        """An answer begins to come."""
        pairs = [(plain(name), plain(value)) for name, value in headers if name.lower() in _READ_BY]
        return Track(self._folder / call, Head(status, pairs, sent))

    def calls(self) -> set[str]:
        """Whose tracks there are."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return {each.name for each in self._folder.iterdir()}
        except OSError as error:
            _LOG.warning("%s cannot be used: %s", self._folder, error)
            return set()

    def left(self, call: str) -> Left | None:
        """What had passed of it; ``None`` when that is not known."""
        try:
            head, _, body = (self._folder / call).read_bytes().partition(b"\n")
            return Left(msgspec.json.decode(head, type=Head), body)
        except (OSError, msgspec.DecodeError):
            return None

    def remove(self, calls: Iterable[str]) -> None:
        """They are written down."""
        for call in calls:
            _remove(self._folder / call)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _LOG.warning("%s cannot be removed: %s", path, error)
