"""Which part of what an instance has written makes lines, and those lines without secrets. Pure.

A line ends with a newline. One that is longer than ``PIECE`` is cut, never through a secret. What has no newline yet is
left for the next time, until it is late; then all of it makes a line but an end that may become a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from relit.lib.spellings import LONGEST
from relit.node.redact import REACH, Redactor, Span

PIECE = 16 << 10  # bytes of a line that stay together

Last = Literal["waits", "late", "ended"]
"""A last line without a newline: it may go on at once; it has waited long enough; or nobody will write its rest."""


class Taken(NamedTuple):
    """``length`` bytes were taken. ``text``: UTF-8, whole lines, without secrets. ``inside``: see ``Redactor``."""

    length: int
    text: bytes
    inside: int


def take(data: bytes, redactor: Redactor, last: Last = "waits", inside: int = 0) -> Taken:
    """The lines that ``data`` begins with."""
    end = data.rfind(b"\n") + 1
    rest, length = _rest(data[end:], redactor, last)
    whole = _cut(data[:end], redactor) + rest
    if b"\r" in whole:
        whole = whole.replace(b"\r\n", b"\n")
    text, inside = redactor.redact(whole, inside)
    return Taken(end + length, _readable(text, redactor), inside)


def stamped(text: bytes, stamp: str) -> bytes:
    """``text`` (whole lines) with a time before each."""
    before = stamp.encode() + b" "
    return before + text[:-1].replace(b"\n", b"\n" + before) + b"\n" if text else b""


def _readable(text: bytes, redactor: Redactor) -> bytes:
    """UTF-8, with every other byte as ``\\xNN``. A secret may be written just so."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return redactor.redact(text.decode("utf-8", "backslashreplace").encode())[0]
    return text


def _cut(text: bytes, redactor: Redactor) -> bytes:
    """``text`` (whole lines) with long lines in pieces."""
    if not _long(text):
        return text
    return b"\n".join(piece for line in text.split(b"\n") for piece in _pieces(line, _cuts(line, redactor, PIECE)))


def _long(text: bytes) -> bool:
    """Whether any line is; looked for in leaps."""
    start = 0
    while len(text) - start > PIECE:
        newline = text.rfind(b"\n", start, start + PIECE + 1)
        if newline == -1:
            return True
        start = newline + 1
    return False


def _rest(rest: bytes, redactor: Redactor, last: Last) -> tuple[bytes, int]:
    """Lines made of what has no newline, and how much of it they are."""
    if last == "late":
        rest = rest[: redactor.unfinished(rest)]
    *pieces, left = _pieces(rest, _cuts(rest, redactor, PIECE + REACH if last == "waits" else PIECE))
    length = len(rest)
    if last == "waits":
        length, left = length - len(left), b""
    pieces += [redactor.ended(left) if last == "ended" else left] if left else []
    return b"".join(piece + b"\n" for piece in pieces), length


def _pieces(line: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for cut in cuts:
        yield line[start:cut]
        start = cut
    yield line[start:]


def _cuts(line: bytes, redactor: Redactor, most: int) -> Iterator[int]:
    """Where to cut a line so that no more than ``most`` is left of it."""
    at = 0
    while len(line) - at > most:
        window = line[at : at + PIECE + REACH]
        at += _place(window, redactor.spans(window))
        yield at


def _place(window: bytes, spans: Sequence[Span]) -> int:
    """Behind a secret that lies across the place; before one of which the end is not seen, if that is not too near."""
    for start, end, _ in spans:
        if start < PIECE < end:
            return start if end > len(window) - LONGEST and start >= PIECE // 2 else end
    place = PIECE
    while place > PIECE - 3 and window[place] & 0xC0 == 0x80:  # inside a character
        place -= 1
    return place
