"""What a provider says that a call has used, and whether it is an answer, read beside it as it passes. Pure."""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from relit.gateway.reading import read

_USAGE = re.compile(rb'"usage"\s*:\s*[^\sn]')  # null, while it is not known yet
_ERROR = rb'"error"\s*:\s*[^\sn]'  # null, while there is none
_TOLD = re.compile(_USAGE.pattern + b"|" + _ERROR)
_FIRST = re.compile(_TOLD.pattern + rb'|"model"')
_END = re.compile(
    rb'^data:\s*\[DONE\]|"type"\s*:\s*"(?:message_stop|response\.(?:completed|incomplete))"|"finish_reason"\s*:\s*"',
    re.M,
)
_BROKEN = re.compile(rb'"finish_reason"\s*:\s*"error"')
_WHOLE_MOST = 32 << 20  # bytes of an answer that does not stream, of which usage is read
_LINE_MOST = 8 << 20
_PART = 1 << 20  # bytes that are looked at in one go, however many a compressed piece holds
_PARTS = 16  # of one piece, at most
_LAST, _BRIEF = 8, 4096  # pieces in which an end is looked for, and bytes of each that are kept
_EVENT, _FRAME = 8, 400  # bytes of an event that say something, at least; and of what is around them, at most
_COUNT_MOST = 1 << 40
_NOTHING = msgspec.Raw(b"null")
_GZIP = 47  # zlib's wbits: gzip or zlib, told by the header


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """``input`` is all that was read; ``cached`` of it came from the provider's cache, ``written`` went into it."""

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0


class _Said(msgspec.Struct, frozen=True):
    """The parts of a document that tell; the rest of it is not made into anything."""

    model: Any = None
    usage: Any = None
    error: Any = None
    response: msgspec.Raw = _NOTHING
    message: msgspec.Raw = _NOTHING


class Meter:
    """Reads along. ``tokens`` is ``None`` as long as nothing was said; ``model`` is what the provider calls it;
    ``streamed``: it comes event by event; ``failed``: it holds an error, whatever its status said; ``finished``: it has
    come to an end of its protocol's, or is a document."""

    def __init__(self, content_type: str, encoding: str = "") -> None:
        self.streamed = "text/event-stream" in content_type
        self.failed, self._ended = False, False
        self._last: deque[bytes] = deque(maxlen=_LAST)
        self._plain = _Plain(encoding)
        self._kept = bytearray()
        self._lost = False
        self.bytes = 0
        self.said = 0  # bytes that may be words of an answer
        self._frame = _FRAME
        self.tokens: Tokens | None = None
        self.model = ""

    @property
    def finished(self) -> bool:
        """Also where nobody can tell: it is encoded in another way than can be read here, or too large."""
        return self._ended or self._lost or self._plain.blind

    def read(self, piece: bytes) -> None:
        """The next piece of the body, as it came."""
        self.bytes += len(piece)
        for data in [piece] if self._lost else self._plain.read(piece):
            self._read(data)
        if self._plain.blind:
            self.said += len(piece)

    def _read(self, data: bytes) -> None:
        if not self.streamed:
            self.said += len(data)
            if not self._lost:
                self._keep(data, _WHOLE_MOST)
            return
        self.said += self._words(data)
        if self._kept or not data.endswith(b"\n"):
            data = self._whole_lines(data)
        self._lines(data)

    def _words(self, data: bytes) -> int:
        """Bytes that may be words: what an event has beyond the smallest one so far."""
        events = max(1, data.count(b"data:"))
        self._frame = min(self._frame, len(data) // events)
        return max(min(len(data), _EVENT * events), len(data) - self._frame * events)

    def end(self) -> None:
        """There is no more."""
        if self.streamed:
            self._lines(bytes(self._kept))
            last = b"".join(self._last)
            self._ended = _END.search(last) is not None
            self.failed = self.failed or _BROKEN.search(last) is not None
        else:
            self._ended = self._look(bytes(self._kept))
        self._kept.clear()

    def _keep(self, data: bytes, most: int) -> None:
        self._kept += data
        if len(self._kept) > most:
            self._kept.clear()
            self._lost = not self.streamed

    def _whole_lines(self, data: bytes) -> bytes:
        """What is whole now; the rest is kept for the next piece."""
        end = data.rfind(b"\n") + 1
        whole = bytes(self._kept) + data[:end] if end else b""
        if end:
            self._kept.clear()
        self._keep(data[end:], _LINE_MOST)
        return whole

    def _lines(self, whole: bytes) -> None:
        """Only lines that tell something are decoded: most are words of the answer. A model is told once."""
        if b"data:" in whole:
            self._last.append(whole if len(whole) <= _BRIEF else _brief(whole))
        if not self._tells(whole):
            return
        for line in whole.split(b"\n"):
            if line.startswith(b"data:") and self._tells(line):
                self._look(line[5:])

    def _tells(self, data: bytes) -> bool:
        may = b'"usage"' in data or b'"error"' in data  # it is asked of each event, and a pattern takes longer
        if self.model:
            return may and _TOLD.search(data) is not None
        return (may or b'"model"' in data) and _FIRST.search(data) is not None

    def _look(self, raw: bytes) -> bool:
        """Whether it is a document."""
        self.failed = self.failed or _BROKEN.search(raw) is not None
        places = [*_places(raw)]
        for each in places:
            if isinstance(each.model, str) and each.model:
                self.model = each.model.replace("\0", "")[:200]
            self.failed = self.failed or bool(each.error)
            if isinstance(each.usage, dict):
                self.tokens = tokens(each.usage, self.tokens)
        return bool(places)


def _brief(piece: bytes) -> bytes:
    """Where an end stands: how its last event begins, and its last bytes."""
    last = piece.rfind(b"data:")
    return piece[last : last + _BRIEF // 4] + b"\n" + piece[-_BRIEF // 2 :]


class _Plain:
    """The body as it was before it was encoded. What cannot be read is left out: the agent gets it all the same."""

    def __init__(self, encoding: str) -> None:
        encoding = encoding.strip().lower()
        self._readable = encoding in ("", "identity")
        self._inflate = zlib.decompressobj(_GZIP) if encoding in ("gzip", "x-gzip", "deflate") else None

    @property
    def blind(self) -> bool:
        """Whether it cannot be read (any more)."""
        return not self._readable and self._inflate is None

    def read(self, piece: bytes) -> Iterator[bytes]:
        if self._readable and self._inflate is None:
            yield piece
        for _ in range(_PARTS):
            if not piece or self._inflate is None:
                return
            try:
                yield self._inflate.decompress(piece, _PART)
            except zlib.error:
                break
            piece = self._inflate.unconsumed_tail
        self._inflate = None  # no such thing, or one that is made to fill memory


def _places(raw: bytes) -> Iterator[_Said]:
    """Where usage may stand: the answer itself; its ``response`` (OpenAI's responses), its ``message`` (Anthropic)."""
    document: _Said | None = read(raw, _Said)
    if document is not None:
        yield document
        yield from filter(None, (read(part, _Said) for part in (document.response, document.message)))


def tokens(usage: dict[str, Any], before: Tokens | None = None) -> Tokens:
    """Of any protocol's words. Anthropic says them in parts, each of which holds until it is said again, and counts
    what has to do with its cache apart; OpenAI counts it in."""
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return Tokens(
            input=_count(usage, "prompt_tokens"),
            output=_count(usage, "completion_tokens"),
            cached=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        )
    if "input_tokens_details" in usage or "total_tokens" in usage:
        return Tokens(
            input=_count(usage, "input_tokens"),
            output=_count(usage, "output_tokens"),
            cached=_count(usage.get("input_tokens_details"), "cached_tokens"),
        )
    known = before or Tokens()
    fresh = _count(usage, "input_tokens", known.input - known.cached - known.written)
    cached = _count(usage, "cache_read_input_tokens", known.cached)
    written = _count(usage, "cache_creation_input_tokens", known.written)
    output = _count(usage, "output_tokens", known.output)
    return Tokens(input=fresh + cached + written, output=output, cached=cached, written=written)


def _count(table: Any, name: str, otherwise: int = 0) -> int:
    value = table.get(name) if isinstance(table, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _COUNT_MOST else otherwise
