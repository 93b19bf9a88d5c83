"""Values as JSON can carry them, and back: what the HTTP API shows of a payload and takes as one.

JSON has no bytes: they travel as ``{"$bytes": "…base64…"}``, and numbers that JSON lacks as ``{"$float": "nan"}``.
A dict whose only key is such a marker cannot be told apart from one.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

import msgspec

BYTES = "$bytes"


def to_plain(value: Any) -> Any:
    """``value`` (dataclasses, Structs, pydantic models, sets, times… included) as dicts, lists and scalars.

    Raises ``TypeError`` for what cannot be written down.
    """
    return _mark(msgspec.to_builtins(value, builtin_types=(bytes, bytearray, memoryview), enc_hook=_foreign))


def _foreign(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)  # pydantic, without importing it
    if dump is None:
        raise TypeError(f"a {type(value).__qualname__} has no JSON form")
    return dump()


def _mark(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _mark(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_mark(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {BYTES: base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    return value


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(_mark(key))


def from_plain(value: Any) -> Any:
    """``to_plain`` undone: markers become what they stand for. Raises ``ValueError`` for a broken marker."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {BYTES} and isinstance(value[BYTES], str):
        return _unmark(value[BYTES])
    if value.keys() == {"$float"} and value["$float"] in ("nan", "inf", "-inf"):
        return float(value["$float"])
    return {key: from_plain(item) for key, item in value.items()}


def _unmark(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{BYTES} is not base64: {error}") from error
