"""Chunks come from the spool or the blob store, proven to be what was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from packs_for_tests import KEYS, chunks, noise, spool_in, text

from relit.errors import RelitError, StoreUnavailable, VolumeDamaged, VolumeError, WrongKey
from relit.manifest import Pack, Place
from relit.store.objects import FolderObjects
from relit.testing.faults import FaultyObjects, Scripted
from relit.volumes.base import Catalog
from relit.volumes.keys import Keys, ids_of
from relit.volumes.pack import Data
from relit.volumes.reader import Chunks
from relit.volumes.spool import Spool
from relit.volumes.upload import key_of

both = pytest.mark.parametrize("keys", [KEYS, None], ids=["encrypted", "plain"])


class Places(dict[bytes, Place]):
    """The one thing that a reader asks the catalog for."""

    async def places(self, ids: Sequence[bytes]) -> dict[bytes, Place]:
        return {id: self[id] for id in ids if id in self}


class Shop:
    """A spool, a blob store, and a reader of both."""

    def __init__(self, folder: Path, keys: Keys | None, limit: int = 64 << 20) -> None:
        self.keys = keys
        self.known = Places()
        self.spool = spool_in(folder / "spool", keys, limit)
        self.folder = FolderObjects(folder / "objects")
        self.objects = FaultyObjects(self.folder, Scripted())

    def put(self, *contents: bytes) -> list[bytes]:
        made = chunks(*contents, keys=self.keys)
        self.known |= zip([id for id, _ in made], self.spool.put(made), strict=True)
        return [id for id, _ in made]

    async def upload(self, *, release: bool = True) -> list[Pack]:
        packs = self.spool.seal()
        for pack, path in self.spool.sealed():
            await self.folder.put_file(key_of(pack.id), path)
            if release:
                self.spool.release(pack)
        return packs

    def reader(self, keys: Keys | str | None = "same", *, near: bool = False) -> Chunks:
        """``near``: of a store whose files are read as such."""
        used, objects = self.keys if isinstance(keys, str) else keys, self.folder if near else self.objects
        return Chunks(catalog(self.known), self.spool, objects, used, ids_of(used))


def catalog(known: Places) -> Catalog:
    return known  # type: ignore[return-value]


async def read(reader: Chunks, ids: Sequence[bytes]) -> dict[bytes, Data]:
    return (await reader.fetch(ids)).open()


@both
@pytest.mark.parametrize("near", [False, True])
async def test_chunks_are_read_wherever_they_are(tmp_path: Path, keys: Keys | None, near: bool) -> None:
    shop = Shop(tmp_path, keys)
    wanted = [text(300_000), noise(200_000), b"", b"last"]
    ids = shop.put(*wanted)
    early = await shop.reader(near=near).fetch(ids)
    assert list((await read(shop.reader(near=near), ids)).values()) == wanted
    shop.spool.seal()
    assert list((await read(shop.reader(near=near), ids)).values()) == wanted
    await shop.upload()
    assert shop.spool.sealed() == []
    assert list((await read(shop.reader(near=near), ids)).values()) == wanted
    assert list(early.open().values()) == wanted, "they were found, and then the pack went on its way"


async def test_each_chunk_comes_once_in_the_order_of_packs(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS, limit=3000)
    ids = shop.put(*(noise(1000, at) for at in range(10)))
    await shop.upload()
    asked = [*reversed(ids), *ids]
    got = [id async for id, _ in shop.reader().stream(asked)]
    assert sorted(got) == sorted(ids)
    assert got == sorted(ids, key=lambda id: (shop.known[id].pack, shop.known[id].offset))


async def test_near_chunks_are_one_request_and_memory_is_bounded(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS)
    small = shop.put(*(noise(1000, at) for at in range(200)))
    large = shop.put(*(noise(500_000, at) for at in range(20)))
    await shop.upload()
    reader = shop.reader()
    await read(reader, small)
    assert shop.objects.requests == {"get_ranges": 2}  # the header, and all of them
    await read(reader, large)
    assert shop.objects.requests == {"get_ranges": 4}  # 10 MB in two


async def test_a_pack_that_leaves_the_spool_meanwhile_is_read_from_the_store(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS)
    ids = shop.put(*(noise(500_000, at) for at in range(40)))
    await shop.upload(release=False)
    got = {}
    async for id, data in shop.reader().stream(ids):
        got[id] = data
        for pack, _ in shop.spool.sealed():
            shop.spool.release(pack)
    assert [got[id] for id in ids] == [noise(500_000, at) for at in range(40)]
    assert shop.objects.requests["get_ranges"] >= 1


async def test_a_chunk_that_nobody_knows_is_damage(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS)
    with pytest.raises(VolumeDamaged, match=f"chunk {'ab' * 16} is in no pack"):
        await read(shop.reader(), [b"\xab" * 16])


async def test_a_pack_that_is_nowhere_is_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS)
    [id] = shop.put(b"x")
    [pack] = await shop.upload()
    await shop.folder.delete(key_of(pack.id))
    with pytest.raises(VolumeDamaged, match=f"pack {pack.id} is damaged at {shop.known[id].offset}") as told:
        await read(shop.reader(), [id])
    assert shop.folder.url in told.value.why


@both
@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("where", ["spool", "objects"])
async def test_every_flipped_bit_of_a_record_is_found_and_one_of_the_header_does_no_harm(
    tmp_path: Path, keys: Keys | None, where: str, near: bool
) -> None:
    shop = Shop(tmp_path, keys)
    [id] = shop.put(noise(20))
    [pack] = await shop.upload(release=where == "objects")
    [path] = [path for path in (tmp_path / where).rglob(f"{pack.id}*") if path.is_file()]
    whole, place = path.read_bytes(), shop.known[id]
    assert (await read(shop.reader(near=near), [id]))[id] == noise(20)
    for bit in range((place.offset + place.length) * 8):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        if bit < place.offset * 8:
            assert (await read(shop.reader(near=near), [id]))[id] == noise(20)
            continue
        with pytest.raises(VolumeDamaged, match=f"pack {pack.id} is damaged at {place.offset}\n"):
            await read(shop.reader(near=near), [id])


@both
@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("where", ["spool", "objects"])
async def test_every_truncation_is_found(tmp_path: Path, keys: Keys | None, where: str, near: bool) -> None:
    shop = Shop(tmp_path, keys)
    [first, last] = shop.put(b"first", noise(20))
    [pack] = await shop.upload(release=where == "objects")
    [path] = [path for path in (tmp_path / where).rglob(f"{pack.id}*") if path.is_file()]
    whole, place = path.read_bytes(), shop.known[last]
    for length in range(place.offset + place.length):
        path.write_bytes(whole[:length])
        with pytest.raises(VolumeDamaged, match=f"pack {pack.id} is damaged at \\d+\n"):
            await read(shop.reader(near=near), [first, last])


async def test_a_record_that_is_another_chunk_is_found(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS)
    a, b = shop.put(noise(20), noise(20, 1))
    shop.known[a] = shop.known[b]
    with pytest.raises(VolumeDamaged) as told:
        await read(shop.reader(), [a])
    assert told.value.why == f"it does not hold chunk {a.hex()}"


async def test_a_near_pack_that_goes_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS)
    [id] = shop.put(b"x")
    [pack] = await shop.upload()
    found, path = await shop.reader(near=True).fetch([id]), shop.folder.local(key_of(pack.id))
    assert path is not None
    path.unlink()
    with pytest.raises(VolumeDamaged, match=f"pack {pack.id} is damaged") as told:
        found.open()
    assert str(path.parent) in told.value.why
    with pytest.raises(VolumeDamaged, match=f"pack {pack.id} is damaged"):
        await read(shop.reader(near=True), [id])
    path.mkdir()
    with pytest.raises(VolumeError, match=f"pack {pack.id} cannot be read") as failed:
        found.open()
    assert not isinstance(failed.value, VolumeDamaged)
    Path(shop.folder.url).rename(tmp_path / "unmounted")
    with pytest.raises(VolumeError, match=f"pack {pack.id} cannot be read") as away:
        found.open()
    assert not isinstance(away.value, VolumeDamaged)


async def test_another_key_is_told_as_such(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS)
    [id] = shop.put(b"x")
    for keys in (Keys(b"o" * 32), None):
        with pytest.raises(WrongKey, match=shop.known[id].pack):
            await read(shop.reader(keys), [id])


async def test_a_store_that_is_away_is_not_damage(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS)
    [id] = shop.put(b"x")
    await shop.upload()
    shop.objects = FaultyObjects(shop.folder, Scripted(("get_ranges", "error")))
    reader = shop.reader()
    with pytest.raises(StoreUnavailable):
        await read(reader, [id])
    assert (await read(reader, [id]))[id] == b"x"


def test_a_spool_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    shop = Shop(tmp_path, KEYS)
    [id] = shop.put(b"x")
    pack = shop.known[id].pack
    (tmp_path / "spool" / f"{pack}.pack").mkdir()
    with pytest.raises(RelitError, match="cannot use the spool"):
        shop.spool.fetch(shop.known[id])


def test_spools_are_closed_twice_without_harm(tmp_path: Path) -> None:
    spool: Spool = Shop(tmp_path, KEYS).spool
    spool.put(chunks(b"x"))
    spool.close()
    spool.close()
