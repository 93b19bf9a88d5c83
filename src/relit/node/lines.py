"""Which part of what an instance has written makes lines, and those lines without secrets. Pure.

A line ends with a newline. One that is longer than ``PIECE`` is cut, never through a secret. What has no newline yet is
left for the next time, until it is late; then all of it makes a line but an end that may become a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from relit.node.redact import LONGEST, REACH, Redactor, Span

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
    lines = text.split(b"\n")
    if max(map(len, lines)) <= PIECE:
        return text
    return b"\n".join(piece for line in lines for piece in _pieces(line, _cuts(line, redactor, PIECE)))


def _rest(rest: bytes, redactor: Redactor, last: Last) -> tuple[bytes, int]:
    """Lines made of what has no newline, and how much of it they are."""
    cuts = list(_cuts(rest, redactor, PIECE + REACH))
    done = cuts[-1] if cuts else 0
    *pieces, left = _pieces(rest, cuts)
    if last == "late":
        left = left[: redactor.unfinished(left)]
    elif last == "waits":
        left = b""
    done += len(left)
    pieces += [redactor.ended(left) if last == "ended" else left] if left else []
    return b"".join(piece + b"\n" for piece in pieces), done


def _pieces(line: bytes, cuts: Sequence[int] | Iterator[int]) -> Iterator[bytes]:
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
