"""Answers of models, as they are kept: whole, compressed, large ones beside the database."""

from __future__ import annotations

import asyncio
import zlib
from typing import Protocol

import msgspec

from relit.gateway.headers import Pairs, plain
from relit.store.values import Answer

MOST = 32 << 20  # bytes of an answer that is kept
INLINE = 64 << 10  # bytes in a row of the database
_THREAD = 128 << 10  # more is compressed in a thread
_BRIEF = 8 << 10  # less is compressed in a window of that size: room for a large one takes ten times as long to make
_LEFT = frozenset({"content-length", "transfer-encoding", "date", "server"})  # of this answer's way, not of the answer


class Blobs(Protocol):
    """Where large contents lie, by their hash."""

    async def put(self, data: bytes) -> str: ...

    async def get(self, hash: str) -> bytes: ...


class Head(msgspec.Struct, frozen=True):
    """What comes before a body."""

    status: int
    headers: Pairs


class Kept(msgspec.Struct, frozen=True):
    """An answer, whole."""

    head: Head
    body: bytes


class Tape:
    """Records an answer as it passes. One that becomes too large is not kept."""

    def __init__(self, status: int, headers: Pairs) -> None:
        self._head = Head(status, [(plain(name), plain(value)) for name, value in headers if name.lower() not in _LEFT])
        self._pieces: list[bytes] = []
        self._size = 0

    def read(self, piece: bytes) -> None:
        """A piece passes."""
        self._size += len(piece)
        if self._size <= MOST:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    async def answer(self, blobs: Blobs) -> Answer | None:
        """What is kept of it. Raises what the blob store raises."""
        if self._size > MOST:
            return None
        body = b"".join(self._pieces)
        packed = await asyncio.to_thread(_packed, body) if len(body) > _THREAD else _packed(body)
        head = msgspec.json.encode(self._head)
        if len(packed) > INLINE:
            return Answer(head=head, blob=await blobs.put(packed))
        return Answer(head=head, body=packed)


def _packed(body: bytes) -> bytes:
    if len(body) > _BRIEF:
        return zlib.compress(body, 1)
    made = zlib.compressobj(1, wbits=13, memLevel=5)
    return made.compress(body) + made.flush()


async def whole(answer: Answer, blobs: Blobs) -> Kept:
    """As it was. Raises what the blob store raises."""
    packed = answer.body if answer.blob is None else await blobs.get(answer.blob)
    return Kept(msgspec.json.decode(answer.head, type=Head), zlib.decompress(packed or b""))
