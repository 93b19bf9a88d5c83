"""JSON that somebody else wrote. Pure."""

from __future__ import annotations

from typing import Any

import msgspec


def read(raw: bytes | msgspec.Raw, kind: Any = Any) -> Any:
    """What it says, as a ``kind``; ``None`` for what is no such thing, no JSON, or deeper than anybody can read."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
