"""Reads ``out.log`` and its predecessors back: by number of lines, by time, and on, over rotations.

Files are opened once and read by descriptor, so that a rotation meanwhile neither repeats nor loses a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from relit.node.outlog import older

_BLOCK = 256 << 10
_STAMP = len("2026-11-26T07:40:12.123Z")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Line(NamedTuple):
    """``at``: ms since 1970; 0 for a line without a time."""

    at: int
    text: str


def tail(out: Path, count: int) -> list[str]:
    """The last lines, as they stand there. Raises ``OSError``; a log that is not there yet is empty."""
    book = Logbook(out)
    try:
        book.last(count)
        return list(book.texts())
    finally:
        book.close()


def parsed(text: str) -> Line:
    """A line of the file."""
    if text[_STAMP - 1 : _STAMP + 1] != "Z ":
        return Line(0, text)
    try:
        at = datetime.fromisoformat(text[:_STAMP])
    except ValueError:
        return Line(0, text)
    return Line(round(at.timestamp() * 1000), text[_STAMP + 1 :])


class Logbook:
    """One instance's log. It has a place, at first the end; ``last`` and ``since`` move it back."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._files: list[int] = []  # oldest first; the place is in the first
        self._at = 0
        self.lost = False  # files were rotated away before they were read
        if self._turn(first=True):
            self._at = _size(self._files[0])

    def close(self) -> None:
        """Safe twice."""
        while self._files:
            os.close(self._files.pop())

    def last(self, count: int) -> None:
        """So many lines from the end. Raises ``OSError``."""
        if not self._files:
            return
        while (found := _back(self._files[0], count)) is None:
            count -= _lines(self._files[0])
            if not self._before():
                found = 0
                break
        self._at = found

    def since(self, ms: int) -> None:
        """To where nothing is left out that is not older; a few older lines may come first. Raises ``OSError``."""
        if not self._files:
            return
        self._at = 0
        while _first(self._files[0]) >= ms and self._before():
            pass

    def lines(self) -> Iterator[Line]:
        """From the place to the end, which is the place then. Raises ``OSError``."""
        at = 0
        for text in self.texts():
            line = parsed(text)
            at = line.at or at  # one without a time belongs to the one before it
            yield Line(at, line.text)

    def texts(self) -> Iterator[str]:
        """The same, as it stands there. Raises ``OSError``."""
        self._turn()
        while self._files:
            yield from self._rest()
            if len(self._files) == 1:
                return
            os.close(self._files.pop(0))
            self._at = 0

    def _rest(self) -> Iterator[str]:
        """Whole lines from the place to the file's end."""
        file = self._files[0]
        self._at = min(self._at, _size(file))  # what was cut off is written anew
        while True:
            data = os.pread(file, _BLOCK, self._at)
            end = data.rfind(b"\n") + 1
            if not end and len(data) == _BLOCK:
                end = _BLOCK  # no log of ours
            if not end:
                return
            for line in data[:end].removesuffix(b"\n").split(b"\n"):
                self._at += len(line) + 1
                yield line.decode("utf-8", "backslashreplace")

    # --- files -------------------------------------------------------------------------------------------------

    def _turn(self, *, first: bool = False) -> bool:
        """Open what is newer than the files that are open; the ``first`` time only the newest."""
        last = os.fstat(self._files[-1]).st_ino if self._files else None
        newer: dict[int, int] = {}
        for path in self._paths():
            file = _open(path)
            if file is None:
                continue
            inode = os.fstat(file).st_ino
            if inode == last or inode in newer:  # or renamed while we looked
                os.close(file)
            else:
                newer[inode] = file
            if inode == last or first:
                break
        else:
            self.lost = self.lost or last is not None
        self._files += reversed(newer.values())
        return bool(self._files)

    def _before(self) -> bool:
        """Open the file that is older than the first one."""
        first = os.fstat(self._files[0]).st_ino
        seen = False
        for path in self._paths():
            file = _open(path)
            if file is None:
                continue
            if seen:
                self._files.insert(0, file)
                self._at = 0
                return True
            seen = os.fstat(file).st_ino == first
            os.close(file)
        return False

    def _paths(self) -> list[Path]:
        """Newest first. A number may be missing, and one more may come while they are opened."""
        begin = f"{self._out.name}."
        try:
            names = os.listdir(self._out.parent)
        except FileNotFoundError:
            return []
        ends = [name.removeprefix(begin) for name in names if name.startswith(begin)]
        numbers = sorted(int(end) for end in ends if end.isdecimal())
        numbers.append(numbers[-1] + 1 if numbers else 1)
        return [self._out, *(older(self._out, number) for number in numbers)]


def _open(path: Path) -> int | None:
    try:
        return os.open(path, _OPEN)
    except FileNotFoundError:
        return None  # not yet, or renamed just now


def _size(file: int) -> int:
    return os.fstat(file).st_size


def _first(file: int) -> int:
    """When the file begins; 0, if it does not say."""
    return parsed(os.pread(file, _STAMP + 1, 0).decode("ascii", "replace")).at


def _back(file: int, count: int) -> int | None:
    """Where the last ``count`` lines begin; None: it has fewer."""
    end = _size(file)
    left = count + 1  # the last line's own newline is the first to be found
    while end > 0:
        start = max(0, end - _BLOCK)
        data = os.pread(file, end - start, start)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) != -1:
            left -= 1
            if left == 0:
                return start + at + 1
        end = start
    return 0 if left == 1 else None


def _lines(file: int) -> int:
    """How many there are."""
    count, at = 0, 0
    while data := os.pread(file, _BLOCK, at):
        count += data.count(b"\n")
        at += len(data)
    return count
