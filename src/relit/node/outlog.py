"""``out.log`` and its predecessors, and the record of how far they go.

The record holds two numbers that belong together: how much of the raw log was read, and how long ``out.log`` was with
all of that in it. What ``out.log`` has behind that place is of a step that was cut short; it is cut off and made anew.
So each line is there exactly once, wherever the node was killed. The record is rewritten in place, in one block that
is its own, so that it needs no room on a full disk. Nothing is synced: a power cut may cost the last seconds.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WIDTH = 256


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """``read`` bytes of the raw log that is ``file`` are in ``out.log`` up to ``wrote``. ``inside``: a private key."""

    file: str
    read: int
    wrote: int
    inside: int = 0


def record_of(raw: Path) -> Path:
    """Where the record of a raw log is."""
    return raw.with_name(f"{raw.name}.place")


def load(path: Path) -> Place | None:
    """The record; ``None`` when there is none, or none that can be read. Raises ``OSError``."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Place)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def save(path: Path, place: Place) -> None:
    """Replace it, wholly or not at all. Raises ``OSError``."""
    fd = os.open(path, _FLAGS, 0o600)
    try:
        os.pwrite(fd, msgspec.json.encode(place).ljust(_WIDTH - 1) + b"\n", 0)
    finally:
        os.close(fd)


class OutLog:
    """An open ``out.log``; made if it is not there. Raises ``OSError``."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, _FLAGS, 0o600)

    def close(self) -> None:
        os.close(self._fd)

    def settle(self, length: int) -> int:
        """Cut off what lies behind; answers how long it is."""
        size = os.fstat(self._fd).st_size
        if size > length:
            os.ftruncate(self._fd, length)
        return min(size, length)

    def write(self, text: bytes, offset: int) -> None:
        """All of it, or nothing. Raises ``OSError``."""
        done = 0
        try:
            while done < len(text):
                done += os.pwrite(self._fd, memoryview(text)[done:], offset + done)
        except OSError:
            with contextlib.suppress(OSError):  # ``settle`` does it the next time
                os.ftruncate(self._fd, offset)
            raise


def rotate(path: Path, keep: int) -> None:
    """Let ``out.log`` be ``out.log.1``, that one ``out.log.2`` …; at most ``keep`` of them. Raises ``OSError``.

    Cut short it leaves a number out, which the next time fills.
    """
    names = [path, *(older(path, number) for number in range(1, keep + 1))]
    free = next((number for number, name in enumerate(names) if number and not name.exists()), keep)
    for number in range(free, 0, -1):
        with contextlib.suppress(FileNotFoundError):  # ``out.log`` itself, after a rotation that was cut short
            os.rename(names[number - 1], names[number])
    if not keep:
        path.unlink(missing_ok=True)
    while (beyond := older(path, keep + 1)).exists():  # from a time when more were kept
        beyond.unlink()
        keep += 1


def older(path: Path, number: int) -> Path:
    """A predecessor of ``out.log``: 1 is the newest."""
    return path.with_name(f"{path.name}.{number}")
