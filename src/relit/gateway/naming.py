"""The model called ``default``: each route has its own. Pure."""

from __future__ import annotations

import msgspec

from relit.gateway.reading import read

_WORD = b'"default"'


def renamed(raw: bytes, model: str) -> bytes:
    """The body ``raw`` with ``model`` in the place of whatever it asks for; empty: as it is."""
    if not model:
        return raw
    fields = read(raw, dict[str, msgspec.Raw])
    if fields is None:
        return raw
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


def named(raw: bytes, model: str) -> bytes:
    """The body ``raw`` with ``model`` in place of ``default``; every other value stays byte by byte as it was."""
    if not model or _WORD not in raw:
        return raw
    fields = read(raw, dict[str, msgspec.Raw])
    if fields is None:
        return raw  # the provider shall say what is wrong with it
    if bytes(fields.get("model", b"")) != _WORD:
        return raw
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)
