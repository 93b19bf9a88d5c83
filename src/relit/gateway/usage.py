"""What a provider says that a call has used, read beside the answer as it passes. Pure."""

from __future__ import annotations

import re
import zlib
from typing import Any

import msgspec

_USAGE = re.compile(rb'"usage"\s*:\s*[^\sn]')  # null, while it is not known yet
_TOLD = re.compile(_USAGE.pattern + rb'|"model"')
_WHOLE_MOST = 64 << 20  # bytes of an answer that does not stream, of which usage is read
_LINE_MOST = 8 << 20
_EVENT = 8  # of an event's bytes, for what it says: events are small, and their frames are not
_COUNT_MOST = 1 << 40
_GZIP = 47  # zlib's wbits: gzip or zlib, told by the header


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """``input`` is all that was read; ``cached`` of it came from the provider's cache, ``written`` went into it."""

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0


class Meter:
    """Reads along. ``tokens`` is ``None`` as long as nothing was said; ``model`` is what the provider calls it;
    ``streamed``: it comes event by event."""

    def __init__(self, content_type: str, encoding: str = "") -> None:
        self.streamed = "text/event-stream" in content_type
        self._plain = _Plain(encoding)
        self._kept = bytearray()
        self.bytes = 0
        self.said = 0  # bytes that may be words of an answer
        self.tokens: Tokens | None = None
        self.model = ""

    def read(self, piece: bytes) -> None:
        """The next piece of the body, as it came."""
        self.bytes += len(piece)
        data = self._plain.read(piece)
        if not self.streamed:
            self.said += len(data)
            self._keep(data, _WHOLE_MOST)
            return
        self.said += min(len(data), _EVENT * max(1, data.count(b"data:")))
        if self._kept or not data.endswith(b"\n"):
            data = self._whole_lines(data)
        self._lines(data)

    def end(self) -> None:
        """There is no more."""
        if self.streamed:
            self._lines(bytes(self._kept))
        else:
            self._look(bytes(self._kept))
        self._kept.clear()

    def _keep(self, data: bytes, most: int) -> None:
        self._kept += data
        if len(self._kept) > most:
            self._kept.clear()

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
        if self._telling.search(whole) is None:
            return
        for line in whole.split(b"\n"):
            if line.startswith(b"data:") and self._telling.search(line) is not None:
                self._look(line[5:])

    @property
    def _telling(self) -> re.Pattern[bytes]:
        return _USAGE if self.model else _TOLD

    def _look(self, raw: bytes) -> None:
        try:
            document = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # no JSON, or cut off: it says nothing
        for each in _places(document):
            if isinstance(model := each.get("model"), str) and model:
                self.model = model.replace("\0", "")[:200]
            if isinstance(usage := each.get("usage"), dict):
                self.tokens = tokens(usage, self.tokens)


class _Plain:
    """The body as it was before it was encoded. What cannot be read is left out: the agent gets it all the same."""

    def __init__(self, encoding: str) -> None:
        encoding = encoding.strip().lower()
        self._readable = encoding in ("", "identity")
        self._inflate = zlib.decompressobj(_GZIP) if encoding in ("gzip", "x-gzip", "deflate") else None

    def read(self, piece: bytes) -> bytes:
        if self._inflate is None:
            return piece if self._readable else b""
        try:
            return self._inflate.decompress(piece)
        except zlib.error:
            self._inflate = None
            return b""


def _places(document: Any) -> list[dict[str, Any]]:
    """Where usage may stand: the answer itself; its ``response`` (OpenAI's responses), its ``message`` (Anthropic)."""
    if not isinstance(document, dict):
        return []
    return [each for each in (document, document.get("response"), document.get("message")) if isinstance(each, dict)]


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
