"""JSON that somebody else wrote. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

_SMALL = 256 << 10  # bytes that cannot become many
_TREES, _VALUES = 200_000, 2_000_000  # lists and tables, and what is in them: objects of 100 MB


def is_moderate(raw: bytes | msgspec.Raw) -> bool:
    """Whether it may be made into objects: two bytes can become fifty. Commas of its texts count, too."""
    view = memoryview(raw)
    if len(view) <= _SMALL:
        return True
    data = bytes(view)
    return data.count(b"[") + data.count(b"{") <= _TREES and data.count(b",") <= _VALUES


def read(raw: bytes | msgspec.Raw, kind: Any = Any) -> Any:
    """What it says, as a ``kind``; ``None`` for what is no such thing, no JSON, deeper than anybody can read, or of so
    many parts that it would fill memory."""
    if kind is Any and not is_moderate(raw):
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
