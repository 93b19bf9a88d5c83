"""How a secret may be written: as it is, in JSON, in a URL, in base64. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator
from urllib.parse import quote, quote_plus

LEAST = 6  # characters of a secret
LONGEST = 1536  # bytes that are looked for at once; of longer secrets, parts
_PART = 1024
_BASE64_LEAST = 8


def spellings(secrets: Collection[str]) -> set[bytes]:
    """What to look for: parts that are short enough, of every way in which a line of a secret may be written."""
    lines = {line for secret in secrets if len(secret) >= LEAST for line in _lines(secret)}
    return {part for line in lines for way in _ways(line) for part in _parts(way)}


def _lines(secret: str) -> Iterator[str]:
    for line in secret.split("\n"):
        core = line.strip()
        if len(line) >= LEAST:
            yield core if len(core) >= LEAST else line


def _ways(line: str) -> Iterator[bytes]:
    plain = _bytes(line)
    yield plain
    yield plain.decode("utf-8", "backslashreplace").encode()
    yield json.dumps(line)[1:-1].encode()
    yield _bytes(json.dumps(line, ensure_ascii=False)[1:-1])
    yield quote(plain, safe="").encode()
    yield quote_plus(plain).encode()
    yield from _base64(plain)


def _bytes(text: str) -> bytes:
    """As it stood in an environment; what never stood in one, as near as can be."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _base64(plain: bytes) -> Iterator[bytes]:
    """As it looks inside longer base64, wherever it begins there: without what depends on its neighbours."""
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + plain).rstrip(b"=")
        whole = coded[(0, 2, 3)[before] : len(coded) - bool((before + len(plain)) % 3)]
        if len(whole) >= _BASE64_LEAST:
            yield whole
            yield whole.translate(bytes.maketrans(b"+/", b"-_"))


def _parts(way: bytes) -> Iterator[bytes]:
    while len(way) > LONGEST:
        yield way[:_PART]
        way = way[_PART:]
    yield way
