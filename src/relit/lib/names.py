r"""Names of files as text, exactly: UTF-8 as it is, any other byte as ``\xNN``, a backslash as ``\\``.

A file's name is bytes; JSON and terminals carry text. And what an agent's name looks like.
"""

from __future__ import annotations

import re

AGENT = r"^[a-z0-9][a-z0-9._-]{0,62}$"  # what an agent may be called
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|(\\))|(\\)")


def shown(name: bytes) -> str:
    """``name`` as text."""
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def given(text: str) -> bytes:
    """The name that ``text`` means. Raises ``ValueError`` for a backslash that begins nothing."""
    found: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(text):
        found.append(text[end : match.start()].encode())
        found.append(_unescaped(match, text))
        end = match.end()
    found.append(text[end:].encode())
    return b"".join(found)


def _unescaped(match: re.Match[str], text: str) -> bytes:
    if match[3]:
        raise ValueError(rf"{text!r}: write a backslash as \\ and a byte as \x and two small hex digits")
    return bytes([int(match[1], 16)]) if match[1] else b"\\"
