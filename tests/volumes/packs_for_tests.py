"""What tests of packs share: a spool, contents, manifests."""

from __future__ import annotations

import secrets
from pathlib import Path
from random import Random

from relit.lib.clock import SYSTEM_CLOCK
from relit.manifest import Delta, Entry, Pack, Place, Snapshot, Volume
from relit.volumes.keys import Keys, ids_of
from relit.volumes.pack import HEADER, INDEX, RECORD, Index, Sealer
from relit.volumes.packindex import PackFile, SealedPack
from relit.volumes.spool import LIMIT, Spool

KEYS = Keys(bytes(range(32)))
VOLUME = Volume(id="v1", name="ada", node="n", created_at_ms=1)


def spool_in(folder: Path, keys: Keys | None = KEYS, limit: int = LIMIT) -> Spool:
    return Spool(folder, keys, node="n", clock=SYSTEM_CLOCK, limit=limit)


def noise(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


def text(size: int) -> bytes:
    return (b"all work and no play makes a dull agent\n" * (size // 40 + 1))[:size]


def chunks(*contents: bytes, keys: Keys | None = KEYS) -> list[tuple[bytes, bytes]]:
    return [(ids_of(keys)(content), content) for content in contents]


def snapshot(number: int = 1) -> Snapshot:
    return Snapshot(id=secrets.token_hex(8), volume=VOLUME.id, number=number, at_ms=number, reason="interval")


def delta(*paths: bytes, full: bool = False) -> Delta:
    return Delta(full=full, entries=[Entry(path, "file", 0o644, 0, 0, 1) for path in paths])


def put_snapshot(spool: Spool, taken: Snapshot, *, committed: bool = True) -> Place:
    """A small delta, synced and settled."""
    place = spool.put_delta(VOLUME, taken, delta(b"f%d" % taken.number))
    spool.sync()
    spool.settle(place, committed)
    return place


def content(spool: Spool, place: Place, keys: Keys | None = KEYS) -> bytes:
    record = spool.fetch(place)
    assert record is not None
    return Sealer(place.pack, keys).open(record, place)[1]


async def index_of(spool: Spool, pack: Pack, keys: Keys | None = KEYS) -> Index:
    [path] = [path for each, path in spool.sealed() if each.id == pack.id]
    assert path.stat().st_size == pack.size
    return await SealedPack(pack.id, PackFile(path), keys).index()


def counters(data: bytes) -> list[int]:
    """Those of all records in a pack's bytes, the index's too."""
    found, at = [], HEADER.size
    while at + RECORD.size <= len(data):
        kind, _, _, length, _, counter = RECORD.unpack(data[at : at + RECORD.size])
        found.append(counter)
        if kind == INDEX:
            break
        at += RECORD.size + length
    return found
