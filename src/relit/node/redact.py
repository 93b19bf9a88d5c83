"""Takes secrets out of logs. Pure: bytes in, bytes out, in time that grows with their length alone.

A secret is known because it was given (an instance's tokens, what ``secret:NAME`` stood for), or by its looks
(``patterns``). One that was given never comes through, as it is or written as JSON, in a URL or in base64; one of
several lines is looked for line by line. Given ones of less than six characters are not looked for: they would take
ordinary words with them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from relit.lib.spellings import spellings
from relit.node.patterns import KEY_BEGIN, KEY_BEGINS, KEY_END, KEY_LINE, KEY_MOST, KEY_RUN, PATTERNS

REACH = 4096  # this far behind a place it is known whether a secret lies across it
_HALF = 4  # of a secret whose rest will never come
_TELLING = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL")
_TELLING_LEAST = 8  # shorter ones are more often a word than a secret
_ROUNDS = 4
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class Span(NamedTuple):
    """A secret's place, and what kind it is."""

    start: int
    end: int
    kind: bytes


def mark(kind: bytes) -> bytes:
    """What stands where a secret was."""
    return b"[redacted:%b]" % kind


def telling_names(env: Iterable[str]) -> list[str]:
    """The names in an environment that say that their values are secret."""
    return [name for name in env if name.upper().rstrip("S").endswith(_TELLING)]


def telling(env: Mapping[str, str]) -> set[str]:
    """The values of an environment whose names say that they are secret."""
    return {env[name] for name in telling_names(env) if len(env[name]) >= _TELLING_LEAST}


class Redactor:
    """Knows the secrets of one instance. ``repr`` shows none. Without ``looks`` only those that were given count."""

    def __init__(self, secrets: Collection[str] = (), *, looks: bool = True) -> None:
        self._looks = looks
        self._needles = sorted(spellings(secrets), key=len, reverse=True)
        self._joined = b"\n".join(self._needles)

    def __repr__(self) -> str:
        return f"Redactor({len(self._needles)} needles)"

    def redact(self, text: bytes, inside: int = 0) -> tuple[bytes, int]:
        """``text`` (whole lines) without its secrets. ``inside`` goes from call to call: bytes in which the rest of a
        private key may still come."""
        text, inside = _without_keys(text, inside) if self._looks else (text, 0)
        spans = self.spans(text)
        return (self._again(self._replaced(text, spans)) if spans else text), inside

    def spans(self, text: bytes) -> list[Span]:
        """Where secrets are, in order; neighbours are one."""
        return _merged([*self._given(text), *(_seen(text) if self._looks else ())])

    def unfinished(self, text: bytes) -> int:
        """Where something begins at the end of ``text`` that may be, or become, a secret; else its length."""
        spans = self.spans(text)
        start = len(text) - self._half(text)
        return min([start, *(span.start for span in spans if span.end >= len(text) or span.start < start < span.end)])

    def ended(self, text: bytes) -> bytes:
        """``text`` whose rest will never come, without the first half of a secret at its end."""
        half = self._half(text)
        if half < _HALF:
            return text
        start = len(text) - half
        start = min([start, *(span.start for span in self._given(text) if span.start < start < span.end)])
        return text[:start] + self._mark(b"secret")

    def _half(self, text: bytes) -> int:
        return max((_begun(text, needle) for needle in self._needles), default=0)

    def _given(self, text: bytes) -> Iterator[Span]:
        for needle in self._needles:
            at = text.find(needle)
            while at != -1:
                start, end = at, at + len(needle)
                while (at := text.find(needle, at + 1)) != -1 and at <= end:
                    end = at + len(needle)
                yield Span(start, end, b"secret")

    def _replaced(self, text: bytes, spans: Iterable[Span]) -> bytes:
        parts, at = [], 0
        for span in spans:
            parts += [text[at : span.start], self._mark(span.kind)]
            at = span.end
        return b"".join([*parts, text[at:]])

    def _mark(self, kind: bytes) -> bytes:
        """One that says nothing, if the usual one had a secret in it, or it in a secret."""
        usual = mark(kind)
        return usual if usual not in self._joined and not any(each in usual for each in self._needles) else b"[*]"

    def _again(self, text: bytes) -> bytes:
        """A mark and what stands beside it may be what another secret looks like."""
        for _ in range(_ROUNDS):
            spans = _merged(self._given(text))
            if not spans:
                return text
            text = self._replaced(text, spans)
        return b"\n".join(b"[*]" if any(each in line for each in self._needles) else line for line in text.split(b"\n"))


# --- secrets that were given -----------------------------------------------------------------------------------


def _begun(text: bytes, needle: bytes) -> int:
    """How much of a needle's beginning the text ends with."""
    most = min(len(needle) - 1, len(text))
    return next((length for length in range(most, 0, -1) if text.endswith(needle[:length])), 0)


# --- secrets by their looks ------------------------------------------------------------------------------------


def _seen(text: bytes) -> Iterator[Span]:
    lower = text.lower()
    for kind, anchor, regexes, any_case in PATTERNS:
        where = lower if any_case else text
        if anchor in where:
            for match in chain.from_iterable(regex.finditer(where) for regex in regexes):
                yield Span(*match.span(match.lastindex or 0), kind)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if merged and span.start <= merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(span.end, merged[-1].end))
        else:
            merged.append(span)
    return merged


def _without_keys(text: bytes, inside: int) -> tuple[bytes, int]:
    """Private keys: a mark for the first line, nothing for those that follow."""
    if not inside and KEY_BEGINS not in text:
        return text, 0
    kept = []
    for line in _LINE.findall(text):
        left, inside = _without_key(line, inside)
        kept.append(left)
    return b"".join(kept), inside


def _without_key(line: bytes, inside: int) -> tuple[bytes, int]:
    kept: list[bytes] = []
    at = 0
    while True:
        if inside:
            end = KEY_END.search(line, at)
            if end is None:
                return b"".join([*kept, _inner(line, at)]), max(0, inside - len(line) + at)
            at = end.end()
            if not kept and not line[at : at + 2].strip():
                return b"", 0
        begin = KEY_BEGIN.search(line, at)
        if begin is None:
            return b"".join([*kept, line[at:]]), 0
        kept += [line[at : begin.start()], mark(b"private-key")]
        at, inside = begin.end(), KEY_MOST


def _inner(line: bytes, at: int) -> bytes:
    """What may be shown of a line inside a key, from there on."""
    if KEY_LINE.fullmatch(line, at):
        return b"\n" if at and line.endswith(b"\n") else b""
    return KEY_RUN.sub(mark(b"private-key"), line[at:])
