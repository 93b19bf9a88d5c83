"""A spool after a crash or on a full disk: what was committed is there, what is damaged is told."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from packs_for_tests import (
    KEYS,
    VOLUME,
    chunks,
    content,
    counters,
    delta,
    index_of,
    noise,
    put_snapshot,
    snapshot,
    spool_in,
    text,
)

from relit.errors import StoreFull, VolumeError, WrongKey
from relit.manifest import Pack
from relit.volumes.keys import Keys, ids_of
from relit.volumes.pack import COMMITTED, CONSOLIDATED, DROPPED, RECORD
from relit.volumes.spool import Spool

both = pytest.mark.parametrize("keys", [KEYS, None], ids=["encrypted", "plain"])


# --- recovery ------------------------------------------------------------------------------------------------------


@both
async def test_a_torn_tail_of_any_length_is_cut(tmp_path: Path, keys: Keys | None) -> None:
    first = spool_in(tmp_path / "first", keys)
    [kept] = first.put(chunks(text(300), keys=keys))
    taken = snapshot()
    at = first.put_delta(VOLUME, taken, delta(b"a"))
    [known] = first.sync()
    first.settle(at, True)
    first.put(chunks(noise(120, 1), keys=keys))
    put_snapshot(first, snapshot(2))
    [path] = (tmp_path / "first").iterdir()
    whole = path.read_bytes()
    first.close()
    for length in range(known.size, len(whole) + 1):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / path.name).write_bytes(whole[:length])
        spool = spool_in(folder, keys)
        assert spool.recover([known], {taken.id}) == []
        [(pack, _)] = spool.sealed()
        index = await index_of(spool, pack, keys)
        assert (pack.id, pack.state) == (known.id, "sealed")
        assert index.chunks == [(ids_of(keys)(text(300)), kept.offset, kept.length, kept.raw)]
        assert [(each.snapshot, each.role) for each in index.manifests] == [(taken.id, COMMITTED)]
        spool.close()


async def test_a_recovered_index_knows_what_was_committed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    lost, kept = snapshot(1), snapshot(1)
    spool.put_delta(VOLUME, lost, delta(b"a"))
    spool.put_delta(VOLUME, kept, delta(b"b"))
    spool.put_delta(VOLUME, replace(kept, number=0), delta(b"c", full=True), consolidated=True)
    packs = spool.sync()
    spool.close()
    spool = spool_in(tmp_path)
    assert spool.recover(packs, [kept.id]) == []
    [(pack, _)] = spool.sealed()
    assert [each.role for each in (await index_of(spool, pack)).manifests] == [DROPPED, COMMITTED, CONSOLIDATED]


def test_no_nonce_is_used_twice_however_often_it_crashes(tmp_path: Path) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    packs: list[Pack] = []
    for at in range(6):
        spool = spool_in(tmp_path)
        spool.recover(packs, ())
        for _, path in spool.sealed():
            seen.update((path.stem, each) for each in counters(path.read_bytes()) if each >= 1 << 63)
        spool.put(chunks(noise(100, at), noise(100, at + 50)))
        put_snapshot(spool, snapshot(at + 1))
        packs = spool.sync()
        spool.put(chunks(b"torn"))
        for path in tmp_path.glob("*.open"):
            seen.update((path.stem, each) for each in counters(path.read_bytes()))
        # as if the machine had stopped before the rename of every sealed pack reached the disk
        spool.close()
        for path in tmp_path.glob("*.pack"):
            path.rename(path.with_suffix(".open"))
    assert len({pack for pack, _ in seen}) == 6
    assert [each for each, times in seen.items() if times > 1] == []


def test_two_spools_share_no_key_and_no_nonce(tmp_path: Path) -> None:
    spools = [spool_in(tmp_path / str(at)) for at in range(2)]
    records = []
    for spool in spools:
        [place] = spool.put(chunks(noise(64)))
        records.append(spool.fetch(place))
    assert records[0] is not None
    assert records[0][: RECORD.size] == (records[1] or b"")[: RECORD.size]  # the same counter …
    assert records[0][RECORD.size :] != (records[1] or b"")[RECORD.size :]  # … under another key


def test_counters_go_on_after_a_write_that_failed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    [place] = spool.put(chunks(b"one"))
    writing = spool._writing
    assert writing is not None
    kept, writing.fd = writing.fd, os.open(writing.path, os.O_RDONLY)  # takes no write
    with pytest.raises(VolumeError):
        spool.put(chunks(b"two", b"three"))
    with pytest.raises(VolumeError):
        spool.put_delta(VOLUME, snapshot(), delta(b"x"))
    os.close(writing.fd)
    writing.fd = kept
    spool.put(chunks(b"four"))
    assert counters(writing.path.read_bytes()) == [0, 4]
    assert content(spool, place) == b"one"


def test_recovered_packs_are_never_written_to(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    [place] = spool.put(chunks(b"before"))
    packs = spool.sync()
    spool.close()
    spool = spool_in(tmp_path)
    spool.recover(packs, ())
    [(pack, path)] = spool.sealed()
    sealed = path.read_bytes()
    [after] = spool.put(chunks(b"after"))
    spool.seal()
    assert after.pack != place.pack
    assert path.read_bytes() == sealed
    assert pack.size == len(sealed)


def recovered(folder: Path, *packs: Pack, committed: Collection[str] = ()) -> Spool:
    """The spool at one more start."""
    spool = spool_in(folder)
    assert spool.recover(packs, committed) == []
    spool.close()
    return spool


def test_what_the_catalog_does_not_know_is_set_aside_and_gone_after_a_further_start(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.put(chunks(b"uncommitted"))
    [sealed] = spool.seal()
    [open_] = spool.put(chunks(b"uncommitted too"))
    spool.close()
    (tmp_path / "notes.txt").write_text("mine")
    assert recovered(tmp_path).sealed() == []
    assert sorted(os.listdir(tmp_path)) == sorted(
        [f"{sealed.id}.pack.orphan", f"{open_.pack}.open.orphan", "notes.txt.orphan"]
    )
    assert recovered(tmp_path).sealed() == []
    assert os.listdir(tmp_path) == ["notes.txt.orphan"]


def test_a_commit_that_ends_after_the_next_start_finds_its_pack_at_the_one_after(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    [place] = spool.put(chunks(b"late"))
    taken = snapshot()
    put_snapshot(spool, taken)
    [known] = spool.sync()
    spool.close()
    assert recovered(tmp_path).sealed() == []
    spool = recovered(tmp_path, known, committed={taken.id})
    assert [pack.id for pack, _ in spool.sealed()] == [known.id]
    assert content(spool, place) == b"late"


def test_a_pack_sealed_without_the_catalog_knowing_is_sealed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    [place] = spool.put(chunks(b"x"))
    [known] = spool.sync()
    [sealed] = spool.seal()
    spool.close()
    assert (known.state, sealed.state) == ("open", "sealed")
    spool = spool_in(tmp_path)
    assert spool.recover([known], ()) == []
    assert [pack for pack, _ in spool.sealed()] == [sealed]
    assert content(spool, place) == b"x"


@pytest.mark.parametrize("state", ["stored", "condemned"])
def test_a_pack_that_is_stored_leaves_the_spool(tmp_path: Path, state: str) -> None:
    spool = spool_in(tmp_path)
    spool.put(chunks(b"x"))
    [sealed] = spool.seal()
    spool.close()
    spool = spool_in(tmp_path)
    assert spool.recover([replace(sealed, state=state)], ()) == []  # type: ignore[arg-type]
    assert (spool.sealed(), os.listdir(tmp_path)) == ([], [])


def test_a_pack_that_is_not_there_any_more_is_told(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.put(chunks(b"x"))
    [pack] = spool.sync()
    spool.close()
    (tmp_path / f"{pack.id}.open").unlink()
    [trouble] = spool_in(tmp_path).recover([pack], ())
    assert pack.id in trouble.what


@pytest.mark.parametrize("missing", [1, 30, 60, 90])
async def test_a_file_shorter_than_the_catalog_knows_is_damage(tmp_path: Path, missing: int) -> None:
    spool = spool_in(tmp_path)
    first, second = spool.put(chunks(noise(50), noise(50, 1)))
    [pack] = spool.sync()
    spool.close()
    os.truncate(tmp_path / f"{pack.id}.open", pack.size - missing)
    spool = spool_in(tmp_path)
    [trouble] = spool.recover([pack], ())
    assert trouble.what == f"pack {pack.id} is damaged at {second.offset if missing < 86 else first.offset}"
    [(sealed, _)] = spool.sealed()
    assert [each[1] for each in (await index_of(spool, sealed)).chunks] == ([first.offset] if missing < 86 else [])


async def test_a_damaged_record_takes_only_itself(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    _, hurt, last = spool.put(chunks(noise(50), noise(50, 1), noise(50, 2)))
    [pack] = spool.sync()
    spool.close()
    data = bytearray((tmp_path / f"{pack.id}.open").read_bytes())
    data[hurt.offset + 30] ^= 1
    data[3] ^= 1  # the header too: nothing in it is not known
    (tmp_path / f"{pack.id}.open").write_bytes(data)
    spool = spool_in(tmp_path)
    assert [each.what for each in spool.recover([pack], ())] == [
        f"pack {pack.id} is damaged at 0", f"pack {pack.id} is damaged at {hurt.offset}"
    ]  # fmt: skip
    [(sealed, _)] = spool.sealed()
    assert [each[1] for each in (await index_of(spool, sealed)).chunks] == [64, last.offset]
    assert content(spool, last) == noise(50, 2)


def test_recovery_that_is_cut_short_is_done_again(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    places = spool.put(chunks(noise(50), noise(50, 1)))
    [pack] = spool.sync()
    spool.close()
    spool = spool_in(tmp_path)
    spool.recover([pack], ())
    [(_, path)] = spool.sealed()
    spool.close()
    whole = path.read_bytes()
    path.unlink()
    for length in range(pack.size, len(whole) + 1):  # an index of any length, and no rename
        (tmp_path / f"{pack.id}.open").write_bytes(whole[:length])
        spool = spool_in(tmp_path)
        assert spool.recover([pack], ()) == []
        assert [content(spool, place) for place in places] == [noise(50), noise(50, 1)]
        again = path.read_bytes()
        assert (len(again), again[: pack.size]) == (len(whole), whole[: pack.size])
        spool.close()


def test_recovery_with_the_wrong_key_touches_nothing(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.put(chunks(b"x"))
    packs = spool.sync()
    spool.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for keys in (Keys(b"o" * 32), None):
        with pytest.raises(WrongKey):
            spool_in(tmp_path, keys).recover(packs, ())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_recovery_leaves_its_own_open_pack_alone(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    [place] = spool.put(chunks(b"x"))
    assert spool.recover([], ()) == []
    spool.put(chunks(b"y"))
    [pack] = spool.seal()
    assert pack.id == place.pack


# --- a full disk ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        if os.environ.get("CI") == "true":
            raise RuntimeError(made.stderr)
        pytest.skip(f"cannot mount: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def put_snapshots(spool: Spool, count: int) -> None:
    for number in range(1, count):
        put_snapshot(spool, snapshot(number))


def test_a_full_disk_is_told_and_undone(small_disk: Path) -> None:
    spool = spool_in(small_disk / "spool")
    [kept] = spool.put(chunks(noise(500_000)))
    size = spool.sync()[0].size
    with pytest.raises(StoreFull, match="cannot write to the spool"):
        spool.put(chunks(*(noise(400_000, at) for at in range(5))))
    assert spool.sync()[0].size == size
    (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
    with pytest.raises(StoreFull):
        spool.put(chunks(noise(9000)))
    with pytest.raises(StoreFull):
        put_snapshots(spool, 100)
    with pytest.raises(StoreFull):
        spool.seal()
    with pytest.raises(StoreFull):
        spool.seal()
    assert content(spool, kept) == noise(500_000)
    (small_disk / "filler").unlink()
    [after] = spool.put(chunks(noise(600_000, 1)))
    packs = spool.seal()
    assert {pack.id for pack in packs} == {kept.pack, after.pack}
    for pack, path in spool.sealed():
        data = path.read_bytes()
        assert len(data) == pack.size
        assert len(set(counters(data))) == len(counters(data))
    assert (content(spool, kept), content(spool, after)) == (noise(500_000), noise(600_000, 1))
    spool.close()


def test_a_disk_that_is_full_from_the_beginning(small_disk: Path) -> None:
    spool = spool_in(small_disk / "spool")
    (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
    for _ in range(2):
        with pytest.raises(StoreFull):
            spool.put(chunks(b"x"))
    assert os.listdir(small_disk / "spool") == []
    (small_disk / "filler").unlink()
    [place] = spool.put(chunks(b"x"))
    assert content(spool, place) == b"x"
    spool.close()
