"""A pack gives back what was put in, or says where it is damaged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from packs_for_tests import KEYS, VOLUME, chunks, delta, noise, put_snapshot, snapshot, spool_in, text

from relit.errors import RelitError, VolumeDamaged, WrongKey
from relit.manifest import Place
from relit.volumes import pack as format
from relit.volumes.keys import Keys, ids_of
from relit.volumes.pack import CHUNK, COMMITTED, CONSOLIDATED, DELTA, DROPPED, FOOTER, HEADER, RECORD, TAG, Sealer
from relit.volumes.packindex import PackFile, SealedPack

ID = "0123456789abcdef" * 2
OTHER = Keys(b"o" * 32)
both = pytest.mark.parametrize("keys", [KEYS, None], ids=["encrypted", "plain"])


def placed(record: bytes, raw: int) -> Place:
    return Place(ID, 64, len(record), raw)


@both
@given(data=st.binary(max_size=3000) | st.integers(0, 3000).map(text), counter=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_a_record_opens_to_what_was_sealed(keys: Keys | None, data: bytes, counter: int) -> None:
    record = Sealer(ID, keys).seal(DELTA, counter, memoryview(data))
    assert Sealer(ID, keys).open(record, placed(record, len(data))) == (DELTA, data)


@both
def test_what_does_not_compress_does_not_grow(keys: Keys | None) -> None:
    sealer = Sealer(ID, keys)
    for data in (noise(100_000), b"", b"x"):
        assert len(sealer.seal(CHUNK, 0, data)) == RECORD.size + len(data) + TAG
    assert len(sealer.seal(CHUNK, 0, text(100_000))) < 2_000


@both
@pytest.mark.parametrize("data", [noise(60), text(600)], ids=["raw", "compressed"])
def test_every_flipped_bit_of_a_record_is_found(keys: Keys | None, data: bytes) -> None:
    sealer = Sealer(ID, keys)
    record = sealer.seal(CHUNK, 7, data)
    for bit in range(len(record) * 8):
        broken = bytearray(record)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VolumeDamaged, match=f"pack {ID} is damaged at 64"):
            sealer.open(broken, placed(record, len(data)))


@both
def test_every_truncation_of_a_record_is_found(keys: Keys | None) -> None:
    sealer = Sealer(ID, keys)
    record = sealer.seal(CHUNK, 7, text(600))
    for length in range(len(record)):
        with pytest.raises(VolumeDamaged, match=f"{ID} is damaged at 64") as told:
            sealer.open(record[:length], placed(record, 600))
        assert length < RECORD.size or told.value.why == "its lengths do not match"


@both
def test_a_record_of_another_pack_is_not_taken(keys: Keys | None) -> None:
    record = Sealer("f" * 32, keys).seal(CHUNK, 7, b"moved")
    with pytest.raises(VolumeDamaged):
        Sealer(ID, keys).open(record, placed(record, 5))


@both
def test_every_flipped_bit_and_truncation_of_a_header_is_found(keys: Keys | None) -> None:
    header = Sealer(ID, keys).header()
    assert len(header) == HEADER.size
    assert Sealer.of(header, ID, keys).header() == header
    for bit in range(len(header) * 8):
        broken = bytearray(header)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VolumeDamaged, match=f"{ID} is damaged at 0"):
            Sealer.of(bytes(broken), ID, keys)
    for length in range(len(header)):
        with pytest.raises(VolumeDamaged, match=f"{ID} is damaged at 0"):
            Sealer.of(header[:length], ID, keys)


def test_another_key_is_told_as_such() -> None:
    for written, read in ((KEYS, OTHER), (KEYS, None), (None, KEYS)):
        with pytest.raises(WrongKey, match=ID):
            Sealer.of(Sealer(ID, written).header(), ID, read)


def test_a_pack_under_another_name_is_told() -> None:
    with pytest.raises(VolumeDamaged, match=f"{'f' * 32} is damaged at 0") as told:
        Sealer.of(Sealer(ID, KEYS).header(), "f" * 32, KEYS)
    assert told.value.why == f"it is pack {ID}"


def test_a_newer_format_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format, "VERSION", 2)
    header = Sealer(ID, KEYS).header()
    monkeypatch.undo()
    with pytest.raises(VolumeDamaged, match=r"has format 2\.1"):
        Sealer.of(header, ID, KEYS)


def test_one_sealer_works_in_many_threads() -> None:
    sealer = Sealer(ID, KEYS)
    data = [noise(5_000, at) + text(5_000) for at in range(200)]

    def there_and_back(at: int) -> bytes:
        record = sealer.seal(CHUNK, at, data[at])
        return sealer.open(record, placed(record, 10_000))[1]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(there_and_back, range(200))) == data


# --- whole packs ---------------------------------------------------------------------------------------------------


def sealed_pack(folder: Path, keys: Keys | None) -> Path:
    """A pack of three chunks, a dropped, a committed and a consolidated manifest record."""
    spool = spool_in(folder, keys)
    spool.put(chunks(text(900), noise(300), b"", keys=keys))
    put_snapshot(spool, snapshot(4), committed=False)
    taken = snapshot(4)
    put_snapshot(spool, taken)
    spool.settle(spool.put_delta(VOLUME, taken, delta(b"f4", b"whole", full=True), consolidated=True), True)
    spool.seal()
    [(_, path)] = spool.sealed()
    spool.close()
    return path


def reader(path: Path, keys: Keys | None) -> SealedPack:
    return SealedPack(path.stem, PackFile(path), keys)


@both
async def test_a_sealed_pack_tells_what_is_in_it(tmp_path: Path, keys: Keys | None) -> None:
    found = reader(sealed_pack(tmp_path, keys), keys)
    index = await found.index()
    assert [each[0] for each in index.chunks] == [ids_of(keys)(data) for data in (text(900), noise(300), b"")]
    assert [(each.volume, each.number, each.role) for each in index.manifests] == [
        ("v1", 4, DROPPED), ("v1", 4, COMMITTED), ("v1", 4, CONSOLIDATED)
    ]  # fmt: skip
    read = [await found.delta(each) for each in index.manifests]
    assert [(each.consolidated, each.delta.full, len(each.delta.entries)) for each in read] == [
        (False, False, 1), (False, False, 1), (True, True, 2)
    ]  # fmt: skip
    assert read[0].snapshot.id != read[1].snapshot.id == read[2].snapshot.id


@both
async def test_walking_finds_the_same_as_the_index(tmp_path: Path, keys: Keys | None) -> None:
    found = reader(sealed_pack(tmp_path, keys), keys)
    walked = await found.walk()
    assert walked.index == await found.index()
    assert walked.troubles == []


@both
async def test_a_pack_without_its_index_is_read_by_walking(tmp_path: Path, keys: Keys | None) -> None:
    path = sealed_pack(tmp_path, keys)
    index = await reader(path, keys).index()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - FOOTER.size - 5)
    with pytest.raises(VolumeDamaged):
        await reader(path, keys).index()
    assert (await reader(path, keys).walk()).index == index


@both
async def test_walking_leaves_out_only_what_is_damaged(tmp_path: Path, keys: Keys | None) -> None:
    path = sealed_pack(tmp_path, keys)
    index = await reader(path, keys).index()
    _, offset, length, _ = index.chunks[0]
    broken = bytearray(path.read_bytes())
    broken[offset + length - 1] ^= 1
    path.write_bytes(broken)
    walked = await reader(path, keys).walk()
    assert walked.index.chunks == index.chunks[1:]
    assert walked.index.manifests == index.manifests
    assert [each.what for each in walked.troubles] == [f"pack {path.stem} is damaged at {offset}"]


@both
async def test_every_flipped_bit_of_index_and_footer_is_found(tmp_path: Path, keys: Keys | None) -> None:
    path = sealed_pack(tmp_path, keys)
    whole = path.read_bytes()
    start = (await reader(path, keys).walk()).end
    await reader(path, keys).index()
    for bit in range(start * 8, len(whole) * 8):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(VolumeDamaged, match=f"pack {path.stem} is damaged at ({start}|{len(whole) - FOOTER.size})"):
            await reader(path, keys).index()


@both
async def test_every_truncation_of_a_sealed_pack_is_found(tmp_path: Path, keys: Keys | None) -> None:
    path = sealed_pack(tmp_path, keys)
    for length in range(path.stat().st_size - 1, -1, -1):
        with path.open("r+b") as file:
            file.truncate(length)
        with pytest.raises(VolumeDamaged, match=f"pack {path.stem} is damaged at"):
            await reader(path, keys).index()


async def test_bytes_slipped_in_before_the_footer_are_found(tmp_path: Path) -> None:
    path = sealed_pack(tmp_path, KEYS)
    whole = path.read_bytes()
    path.write_bytes(whole[: -FOOTER.size] + b"more" + whole[-FOOTER.size :])
    with pytest.raises(VolumeDamaged, match=f"is damaged at {len(whole) + 4 - FOOTER.size}"):
        await reader(path, KEYS).index()


async def test_a_pack_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(VolumeDamaged, match=f"pack {ID} is damaged"):
        await reader(tmp_path / ID, KEYS).index()


async def test_the_wrong_key_opens_nothing(tmp_path: Path) -> None:
    path = sealed_pack(tmp_path, KEYS)
    for keys in (OTHER, None):
        for read in (reader(path, keys).index, reader(path, keys).walk):
            with pytest.raises(WrongKey):
                await read()


async def test_an_index_that_names_another_snapshot_is_not_believed(tmp_path: Path) -> None:
    found = reader(sealed_pack(tmp_path, KEYS), KEYS)
    first, second, _ = (await found.index()).manifests
    with pytest.raises(RelitError, match="is damaged at"):
        await found.delta(replace(second, snapshot=first.snapshot))
