"""The pack format: header, sealed records one after the other, an index, a footer. docs/reference/volume-format.md.

Nothing here touches files. A record's nonce is its counter, which is never used twice under one pack's key; the
index takes a random one of the upper half of the counters, since a pack cut short by a crash gets a second index.
"""

from __future__ import annotations

import contextlib
import secrets
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

import msgspec
import zstandard
from blake3 import blake3

from relit.errors import VolumeDamaged, WrongKey
from relit.manifest import Delta, Place, Snapshot, Volume
from relit.volumes.keys import Keys

MAGIC, END = b"RELITPK1", b"RELITEND"
HEADER = struct.Struct("<8sHHI16s16s16s")  # magic, version, suite, 0, pack id, key check, sum
RECORD = struct.Struct("<BBHIIQ")  # kind, flags, 0, stored length, raw length, counter
FOOTER = struct.Struct("<QQ8s8s")  # index offset, index length, sum, magic
VERSION = 1
PLAIN, SEALED = 0, 1  # suites
CHUNK, DELTA, INDEX = 1, 2, 4  # kinds of records
DROPPED, COMMITTED, CONSOLIDATED = 0, 1, 2  # roles of manifest records
ZSTD = 1  # flag
TAG = 16
_GAIN = 0.97  # of the raw size: what compresses worse is stored as it is
_MANY = 8  # records from which on they are worked on together
_INDEX_COUNTERS = 1 << 63
_threads = threading.local()


Data = bytes | memoryview


class Described(msgspec.Struct, frozen=True, array_like=True):
    """A manifest record of a pack: what it describes and where it lies.

    ``role``: ``DROPPED`` (written, but its snapshot was not seen to be committed), ``COMMITTED`` (what its snapshot
    changed) or ``CONSOLIDATED`` (written later). ``base``: the snapshot that it is a difference to; 0: to nothing, so
    that a history may begin there.
    """

    volume: str
    number: int
    snapshot: str
    role: int
    offset: int
    length: int
    raw: int
    base: int = 0

    def place(self, pack: str) -> Place:
        """Where it lies, in that pack."""
        return Place(pack, self.offset, self.length, self.raw)


class Index(msgspec.Struct, frozen=True, array_like=True):
    """What a sealed pack holds, in the order of offsets."""

    chunks: list[tuple[bytes, int, int, int]]  # id, offset, length, raw length
    manifests: list[Described]


class DeltaRecord(msgspec.Struct, frozen=True, array_like=True):
    """The content of a manifest record. ``consolidated``: it was written after the snapshot. ``base`` as in
    ``Described``."""

    volume: Volume
    snapshot: Snapshot
    delta: Delta
    consolidated: bool = False
    base: int = 0


class Sealer:
    """Seals and opens the records of one pack."""

    def __init__(self, pack: str, keys: Keys | None) -> None:
        self.pack = pack
        self._id = bytes.fromhex(pack)
        self._check = keys.check_of(self._id) if keys is not None else bytes(16)
        self._suite = SEALED if keys is not None else PLAIN
        self._cipher = keys.cipher(self._id) if keys is not None else None

    @classmethod
    def of(cls, header: bytes, pack: str, keys: Keys | None) -> Sealer:
        """For a pack that begins with these bytes. WrongKey, VolumeDamaged."""
        id, suite, check = opened_header(header, pack)
        if id != pack:
            raise damaged(Place(pack, 0, HEADER.size, 0), f"it is pack {id}")
        if suite == SEALED and keys is None:
            raise WrongKey(f"pack {pack} is encrypted", why="no key is at hand", fix=_KEY)
        if suite == PLAIN and keys is not None:
            raise WrongKey(f"pack {pack} is not encrypted", why="all packs of a store with a key are", fix=_KEY)
        made = cls(pack, keys)
        if made._check != check:
            raise WrongKey(f"the key does not open pack {pack}", why="it was sealed with another one", fix=_KEY)
        return made

    def header(self) -> bytes:
        """The first bytes of the pack."""
        head = HEADER.pack(MAGIC, VERSION, self._suite, 0, self._id, self._check, bytes(16))[:-16]
        return head + blake3(head).digest(length=16)

    def seal(self, kind: int, counter: int, data: Data) -> bytes:
        """A record. May be called by several threads at once."""
        return self._sealed(kind, counter, data, _compressor().compress(data))

    def seal_all(self, kind: int, counter: int, contents: Sequence[Data]) -> list[bytes]:
        """Records of these, counted from ``counter`` on. They are compressed in one call, during which other threads
        go on."""
        if len(contents) < _MANY:
            return [self.seal(kind, counter + no, data) for no, data in enumerate(contents)]
        packed = _compressor().multi_compress_to_buffer(list(contents))
        return [
            self._sealed(kind, counter + no, data, memoryview(packed[no]))  # type: ignore[arg-type]
            for no, data in enumerate(contents)
        ]

    def _sealed(self, kind: int, counter: int, data: Data, packed: Data) -> bytes:
        flags = ZSTD if len(packed) < len(data) * _GAIN else 0
        body = packed if flags else data
        head = RECORD.pack(kind, flags, 0, len(body) + TAG, len(data), counter)
        if self._cipher is None:
            plain = head + bytes(body)
            return plain + self._sum(plain, TAG)
        return head + self._cipher.encrypt(counter.to_bytes(12, "little"), body, head)

    def open(self, record: Data, place: Place) -> tuple[int, bytes]:
        """(kind, content) of a record. VolumeDamaged when it is not what was written."""
        try:
            kind, flags, body = self._body(record, place)
            if (zstandard.frame_content_size(body) if flags & ZSTD else len(body)) != place.raw:
                raise ValueError("its content has another length")
            data = _decompressor().decompress(body) if flags & ZSTD else body
        except Exception as error:  # every library has its own word for "not what was written"
            raise damaged(place, str(error) or "its authentication fails") from error
        return kind, data

    def open_all(self, records: Sequence[Data], places: Sequence[Place]) -> list[tuple[int, Data]]:
        """The same of several. They are decompressed in one call, during which other threads go on."""
        if len(records) >= _MANY:
            with contextlib.suppress(Exception):  # one is damaged: the loop below finds and names it
                return self._open_many(records, places)
        return [self.open(record, place) for record, place in zip(records, places, strict=True)]

    def _open_many(self, records: Sequence[Data], places: Sequence[Place]) -> list[tuple[int, Data]]:
        bodies = [self._body(record, place) for record, place in zip(records, places, strict=True)]
        packed = [no for no, (_, flags, _) in enumerate(bodies) if flags & ZSTD]
        data: list[Data] = [body for _, _, body in bodies]
        if packed:
            sizes = struct.pack(f"={len(packed)}Q", *(places[no].raw for no in packed))
            unpacked = _decompressor().multi_decompress_to_buffer([data[no] for no in packed], sizes)
            for at, no in enumerate(packed):
                data[no] = memoryview(unpacked[at])  # type: ignore[arg-type]
        if any(len(each) != place.raw for each, place in zip(data, places, strict=True)):
            raise ValueError("a content has another length")
        return [(kind, each) for (kind, _, _), each in zip(bodies, data, strict=True)]

    def _body(self, record: Data, place: Place) -> tuple[int, int, bytes]:
        """(kind, flags, what was encrypted) of a record."""
        head = bytes(record[: RECORD.size])
        kind, flags, _, length, raw, counter = RECORD.unpack(head)
        sealed = memoryview(record)[RECORD.size :]
        if length != len(sealed) or raw != place.raw:
            raise ValueError("its lengths do not match")
        return kind, flags, self._opened(head, counter, sealed)

    def _opened(self, head: bytes, counter: int, sealed: memoryview) -> bytes:
        if self._cipher is not None:
            return self._cipher.decrypt(counter.to_bytes(12, "little"), sealed, head)
        body, sum = bytes(sealed[:-TAG]), sealed[-TAG:]
        if self._sum(head + body, TAG) != sum:
            raise ValueError("its check sum does not match")
        return body

    def finish(self, offset: int, index: Index) -> bytes:
        """The index record and the footer of a pack whose records end at ``offset``."""
        counter = _INDEX_COUNTERS | secrets.randbits(63)
        record = self.seal(INDEX, counter, msgspec.msgpack.encode(index))
        where = FOOTER.pack(offset, len(record), bytes(8), END)[:16]
        return record + where + self._sum(where, 8) + END

    def footer(self, data: bytes, size: int) -> tuple[int, int]:
        """(offset, length) of the index record, out of the last bytes of a sealed pack of ``size`` bytes."""
        place = Place(self.pack, max(0, size - FOOTER.size), FOOTER.size, 0)
        if len(data) < FOOTER.size or data[-len(END) :] != END:
            raise damaged(place, "its last bytes are not those of a sealed pack")
        offset, length, sum, _ = FOOTER.unpack(data[-FOOTER.size :])
        if self._sum(data[-FOOTER.size :][:16], 8) != sum or offset + length + FOOTER.size != size:
            raise damaged(place, "its footer's check sum does not match")
        return offset, length

    def _sum(self, data: bytes, length: int) -> bytes:
        return blake3(self._id + data).digest(length=length)


def opened_header(data: bytes, name: str) -> tuple[str, int, bytes]:
    """(pack id, suite, key check) of a pack's first bytes."""
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        _no_header(name, "its first bytes are not those of a pack")
    _, version, suite, zero, id, check, sum = HEADER.unpack(data[: HEADER.size])
    if blake3(data[: HEADER.size - 16]).digest(length=16) != sum:
        _no_header(name, "its header's check sum does not match")
    if version != VERSION or suite not in (PLAIN, SEALED) or zero:
        raise VolumeDamaged(
            f"pack {name} has format {version}.{suite}",
            why=f"this relit reads format {VERSION}",
            fix="use a newer relit",
        )
    return id.hex(), suite, check


def _no_header(name: str, why: str) -> NoReturn:
    raise damaged(Place(name, 0, HEADER.size, 0), why)


def records(data: bytes | memoryview, start: int = HEADER.size) -> Iterator[tuple[int, Place]]:
    """(kind, place) of the whole records in a pack's bytes, up to the index or one that is cut short, unopened."""
    at = start
    while at + RECORD.size <= len(data):
        kind, _, zero, length, raw, _ = RECORD.unpack(data[at : at + RECORD.size])
        end = at + RECORD.size + length
        if kind not in (CHUNK, DELTA, INDEX) or zero or length < TAG or end > len(data):
            return
        yield kind, Place("", at, RECORD.size + length, raw)
        if kind == INDEX:
            return
        at = end


def room(contents: Sequence[Data]) -> int:
    """The most that records of these take."""
    return sum(map(len, contents)) + len(contents) * (RECORD.size + TAG)


def damaged(place: Place, why: str) -> VolumeDamaged:
    """The error that names where the damage is."""
    return VolumeDamaged(
        f"pack {place.pack} is damaged at {place.offset}",
        why=why,
        fix="relit volume verify lists what it takes with it; put the pack back from a copy of the blob store",
    )


_KEY = "relit key import FILE with the right key"


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
