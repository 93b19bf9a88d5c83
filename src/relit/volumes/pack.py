"""The pack format: header, sealed records one after the other, an index, a footer. docs/reference/volume-format.md.

Nothing here touches files. A record's nonce is its counter, which is never used twice under one pack's key; the
index takes a random one of the upper half of the counters, since a pack cut short by a crash gets a second index.
"""

from __future__ import annotations

import secrets
import struct
import threading
from collections.abc import Iterator

import msgspec
import zstandard
from blake3 import blake3

from relit.errors import VolumeDamaged, WrongKey
from relit.manifest import Delta, Place, Snapshot, Volume
from relit.volumes.keys import Keys

MAGIC, END = b"RELITPK1", b"RELITEND"
HEADER = struct.Struct("<8sHHI16s16s16s")  # magic, version, suite, 0, pack id, check, 0
RECORD = struct.Struct("<BBHIII")  # kind, flags, 0, stored length, raw length, counter
FOOTER = struct.Struct("<QQ8s8s")  # index offset, index length, 0, magic
VERSION = 1
PLAIN, SEALED = 0, 1  # suites
CHUNK, DELTA, INDEX = 1, 2, 4  # kinds of records
ZSTD = 1  # flag
TAG = 16
_GAIN = 0.97  # of the raw size: what compresses worse is stored as it is
_INDEX_COUNTERS = 1 << 31
_threads = threading.local()


class Described(msgspec.Struct, frozen=True, array_like=True):
    """A manifest record of a pack: what it describes and where it lies."""

    volume: str
    number: int
    snapshot: str
    place: Place


class Index(msgspec.Struct, frozen=True, array_like=True):
    """What a sealed pack holds."""

    chunks: list[tuple[bytes, int, int, int]]  # id, offset, length, raw length
    manifests: list[Described]


class DeltaRecord(msgspec.Struct, frozen=True, array_like=True):
    """The content of a delta record."""

    volume: Volume
    snapshot: Snapshot
    delta: Delta


class Sealer:
    """Seals and opens the records of one pack."""

    def __init__(self, pack: str, keys: Keys | None, check: bytes = b"") -> None:
        self.pack = pack
        self._id = bytes.fromhex(pack)
        if keys is not None and check and keys.check_of(self._id) != check:
            raise WrongKey(
                f"the key does not open pack {pack}",
                why="it was sealed with another one",
                fix="relit key import FILE with the right key",
            )
        self._keys = keys
        self._cipher = keys.cipher(self._id) if keys is not None else None

    def header(self) -> bytes:
        """The first bytes of the pack."""
        check = self._keys.check_of(self._id) if self._keys is not None else bytes(16)
        suite = SEALED if self._keys is not None else PLAIN
        return HEADER.pack(MAGIC, VERSION, suite, 0, self._id, check, bytes(16))

    def seal(self, kind: int, counter: int, data: bytes | memoryview) -> bytes:
        """A record. May be called by several threads at once."""
        packed = _compressor().compress(data)
        flags = ZSTD if len(packed) < len(data) * _GAIN else 0
        body = packed if flags else bytes(data)
        head = RECORD.pack(kind, flags, 0, len(body) + TAG, len(data), counter)
        if self._cipher is None:
            return head + body + blake3(head + body).digest(length=TAG)
        return head + self._cipher.encrypt(counter.to_bytes(12, "little"), body, head)

    def open(self, record: bytes | memoryview, place: Place) -> tuple[int, bytes]:
        """(kind, content) of a record. VolumeDamaged when it is not what was written."""
        try:
            head = bytes(record[: RECORD.size])
            kind, flags, zero, length, raw, counter = RECORD.unpack(head)
            sealed = bytes(record[RECORD.size :])
            if zero or length != len(sealed) or raw != place.raw:
                raise ValueError("its lengths do not match")
            body = self._opened(head, counter, sealed)
            data = _decompressor().decompress(body, max_output_size=raw) if flags & ZSTD else body
            if len(data) != raw:
                raise ValueError("its content has another length")
        except Exception as error:  # every library has its own word for "not what was written"
            raise damaged(place, str(error) or type(error).__name__) from error
        return kind, data

    def _opened(self, head: bytes, counter: int, sealed: bytes) -> bytes:
        if self._cipher is not None:
            return self._cipher.decrypt(counter.to_bytes(12, "little"), sealed, head)
        body, sum = sealed[:-TAG], sealed[-TAG:]
        if blake3(head + body).digest(length=TAG) != sum:
            raise ValueError("its check sum does not match")
        return body

    def finish(self, offset: int, index: Index) -> bytes:
        """The index record and the footer of a pack whose records end at ``offset``."""
        counter = _INDEX_COUNTERS | secrets.randbits(31)
        record = self.seal(INDEX, counter, msgspec.msgpack.encode(index))
        return record + FOOTER.pack(offset, len(record), bytes(8), END)


def opened_header(data: bytes, name: str) -> tuple[str, int, bytes]:
    """(pack id, suite, check) of a pack's first bytes."""
    try:
        magic, version, suite, _, id, check, _ = HEADER.unpack(data[: HEADER.size])
    except struct.error:
        magic, version, suite, id, check = b"", 0, 0, b"", b""
    if magic != MAGIC or suite not in (PLAIN, SEALED):
        raise VolumeDamaged(f"{name} is no pack", why="its first bytes are not those of one", fix="relit volume verify")
    if version != VERSION:
        raise VolumeDamaged(
            f"{name} has format {version}", why=f"this relit reads format {VERSION}", fix="use a newer relit"
        )
    return id.hex(), suite, check


def opened_footer(data: bytes, name: str) -> tuple[int, int]:
    """(offset, length) of a sealed pack's index record."""
    try:
        offset, length, _, magic = FOOTER.unpack(data[-FOOTER.size :])
    except struct.error:
        magic, offset, length = b"", 0, 0
    if magic != END:
        raise VolumeDamaged(f"{name} has no index", why="its last bytes are not a footer", fix="relit volume verify")
    return offset, length


def records(data: bytes | memoryview, start: int = HEADER.size) -> Iterator[tuple[int, Place]]:
    """(kind, place) of the whole records in a pack's bytes, up to the first that is cut short. Nothing is opened."""
    at = start
    while at + RECORD.size <= len(data):
        kind, _, zero, length, raw, _ = RECORD.unpack(data[at : at + RECORD.size])
        end = at + RECORD.size + length
        if kind not in (CHUNK, DELTA) or zero or end > len(data):
            return
        yield kind, Place("", at, RECORD.size + length, raw)
        at = end


def damaged(place: Place, why: str) -> VolumeDamaged:
    """The error that names where the damage is."""
    return VolumeDamaged(
        f"pack {place.pack} is damaged at {place.offset}",
        why=why,
        fix="relit volume verify lists what it takes with it; put the pack back from a copy of the blob store",
    )


def _compressor() -> zstandard.ZstdCompressor:
    if not hasattr(_threads, "compressor"):
        _threads.compressor = zstandard.ZstdCompressor(level=1, write_content_size=True)
    made: zstandard.ZstdCompressor = _threads.compressor
    return made


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_threads, "decompressor"):
        _threads.decompressor = zstandard.ZstdDecompressor()
    made: zstandard.ZstdDecompressor = _threads.decompressor
    return made
