"""The spool: what it answered is there, in packs that are right, also after a crash."""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
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

from relit.errors import VolumeError
from relit.manifest import Place
from relit.volumes.keys import Keys
from relit.volumes.pack import COMMITTED, CONSOLIDATED, DROPPED, Sealer

both = pytest.mark.parametrize("keys", [KEYS, None], ids=["encrypted", "plain"])


# --- writing -------------------------------------------------------------------------------------------------------


@both
def test_what_was_put_is_fetched(tmp_path: Path, keys: Keys | None) -> None:
    spool = spool_in(tmp_path, keys)
    wanted = [b"", b"x", text(500_000), noise(300_000), *(b"%d" % at for at in range(200))]
    places = spool.put(chunks(*wanted, keys=keys))
    assert [content(spool, place, keys) for place in places] == wanted
    spool.seal()
    assert [content(spool, place, keys) for place in places] == wanted


async def test_the_same_id_twice_is_written_once_in_a_call_and_twice_in_two(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    a, b, again = spool.put(chunks(b"a", b"b", b"a"))
    assert a == again != b
    [later] = spool.put(chunks(b"a"))
    assert later != a
    assert content(spool, a) == content(spool, later) == b"a"
    [pack] = spool.seal()
    assert Counter(each[0] for each in (await index_of(spool, pack)).chunks) == {
        KEYS.id_of(b"a"): 2, KEYS.id_of(b"b"): 1
    }  # fmt: skip


async def test_a_pack_keeps_to_64_mib(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    block = noise(512 << 10)
    wanted = [bytes([at]) + block for at in range(140)]
    places = spool.put(chunks(*wanted))
    spool.put_delta(VOLUME, snapshot(), delta(b"x"))
    packs = spool.sync()
    assert len(packs) == 2
    assert all(pack.size <= 64 << 20 for pack in packs)
    assert max(pack.size for pack in packs) > 55 << 20
    assert all(content(spool, place) == data for place, data in zip(places, wanted, strict=True))
    [full] = spool.seal(force=False)
    assert len((await index_of(spool, full)).chunks) == sum(place.pack == full.id for place in places)


def test_one_record_may_be_larger_than_a_pack(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, limit=1000)
    places = spool.put(chunks(noise(5000), noise(10), noise(5000, 1)))
    assert [len(content(spool, place)) for place in places] == [5000, 10, 5000]
    assert len({place.pack for place in places}) == 3


def test_packs_are_dated_in_the_order_they_were_begun(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, limit=1000)
    first = [spool.put(chunks(noise(900, at)))[0].pack for at in range(20)]
    dated = sorted(spool.sync(), key=lambda pack: pack.created_at_ms)
    assert [pack.id for pack in dated] == first
    assert len({pack.created_at_ms for pack in dated}) == 20
    ahead = [replace(pack, created_at_ms=pack.created_at_ms + 10**9) for pack in dated]
    spool.close()
    spool = spool_in(tmp_path)
    spool.recover(ahead, ())
    spool.put(chunks(b"later"))
    assert spool.sync()[-1].created_at_ms > ahead[-1].created_at_ms


def test_no_file_holds_the_key_or_what_was_put(tmp_path: Path) -> None:
    keys, secret = Keys(noise(32)), b"hunter2 is the password of everybody " * 40
    spool = spool_in(tmp_path, keys)
    spool.put(chunks(secret, secret[:100], noise(10), keys=keys))
    put_snapshot(spool, replace(snapshot(), note="secret note"))
    spool.sync()
    open_ = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    spool.seal()
    sealed = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for hidden in (noise(32), noise(32).hex().encode(), keys.export().encode(), secret[:37], b"secret note", b"ada"):
        assert hidden not in open_
        assert hidden not in sealed


# --- sync and threads ----------------------------------------------------------------------------------------------


def test_sync_covers_all_that_was_answered_before(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, limit=200_000)
    wrong: list[str] = []
    stop = threading.Event()

    def write(seed: int) -> list[tuple[Place, bytes]]:
        made = []
        for at in range(60):
            data = noise(1000 + at, seed * 1000 + at)
            [place] = spool.put(chunks(data))
            sizes = {pack.id: pack.size for pack in spool.sync()}
            if sizes.get(place.pack, 0) < place.offset + place.length:
                wrong.append(f"{place} in {sizes}")
            made.append((place, data))
        return made

    def seal() -> None:
        while not stop.is_set():
            spool.seal(force=False)

    sealing = threading.Thread(target=seal)
    sealing.start()
    with ThreadPoolExecutor(6) as pool:
        made = [each for part in pool.map(write, range(6)) for each in part]
    stop.set()
    sealing.join()
    assert wrong == []
    assert all(content(spool, place) == data for place, data in made)
    spool.seal()
    for pack, path in spool.sealed():
        seen = counters(path.read_bytes())
        assert len(set(seen)) == len(seen)
        assert path.stat().st_size == pack.size


def test_sync_answers_a_pack_that_anothers_sync_has_flushed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    [mine] = spool.put(chunks(b"mine"))
    spool.sync()
    [pack] = spool.sync()
    assert pack.id == mine.pack
    assert pack.size >= mine.offset + mine.length


def test_after_a_failed_fsync_nothing_more_is_taken(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    [place] = spool.put(chunks(b"kept"))
    known = spool.sync()
    spool.put(chunks(b"not known to be on disk"))
    writing = spool._writing
    assert writing is not None
    kept, writing.fd = writing.fd, os.open("/dev/null", os.O_WRONLY)  # what cannot be synced
    for _ in range(2):
        with pytest.raises(VolumeError, match="spool"):
            spool.sync()
    for refused in (lambda: spool.put(chunks(b"x")), spool.seal, lambda: put_snapshot(spool, snapshot())):
        with pytest.raises(VolumeError, match="takes nothing more"):
            refused()
    assert content(spool, place) == b"kept"
    spool.close()
    os.close(kept)
    after = spool_in(tmp_path)
    assert after.recover(known, ()) == []
    assert content(after, place) == b"kept"


# --- sealing -------------------------------------------------------------------------------------------------------


async def test_sealing_waits_for_a_pending_delta(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    taken = snapshot()
    place = spool.put_delta(VOLUME, taken, delta(b"a"))
    assert spool.seal() == []
    [other] = spool.put(chunks(b"goes on elsewhere"))
    assert other.pack != place.pack
    spool.settle(place, True)
    assert [pack.id for pack in spool.seal(force=False)] == [place.pack]
    [pack] = [pack for pack, _ in spool.sealed()]
    [listed] = (await index_of(spool, pack)).manifests
    assert (listed.snapshot, listed.role, listed.place(pack.id)) == (taken.id, COMMITTED, place)


async def test_the_index_tells_committed_from_dropped(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    first, second = snapshot(1), snapshot(2)
    places = [
        spool.put_delta(VOLUME, first, delta(b"lost")),
        spool.put_delta(VOLUME, second, delta(b"kept")),
        spool.put_delta(VOLUME, first, delta(b"whole", full=True), consolidated=True),
        spool.put_delta(VOLUME, second, delta(b"whole", full=True), consolidated=True),
    ]
    for place, committed in zip(places, (False, True, True, False), strict=True):
        spool.settle(place, committed)
        spool.settle(place, not committed)  # the first word counts
    [pack] = spool.seal()
    assert [(each.offset, each.number, each.role) for each in (await index_of(spool, pack)).manifests] == [
        (places[0].offset, 1, DROPPED),
        (places[1].offset, 2, COMMITTED),
        (places[2].offset, 1, CONSOLIDATED),
        (places[3].offset, 2, DROPPED),
    ]


def test_a_pack_with_nothing_of_use_is_not_sealed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    assert spool.seal() == []
    put_snapshot(spool, snapshot(), committed=False)
    assert spool.seal() == []
    spool.put(chunks(b"x"))
    assert len(spool.seal()) == 1


async def test_sealing_that_failed_is_finished_by_the_next_call(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    [place] = spool.put(chunks(b"x"))
    (tmp_path / f"{place.pack}.pack" / "in the way").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(VolumeError, match="cannot use the spool"):
            spool.seal()
    assert spool.sealed() == []
    (tmp_path / f"{place.pack}.pack" / "in the way").rmdir()
    (tmp_path / f"{place.pack}.pack").rmdir()
    [pack] = spool.seal()
    assert [each[1] for each in (await index_of(spool, pack)).chunks] == [place.offset]
    assert content(spool, place) == b"x"


def test_without_force_only_full_packs_are_sealed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, limit=1000)
    [first] = spool.put(chunks(noise(900)))
    assert spool.seal(force=False) == []
    spool.put(chunks(noise(900, 1)))
    assert [pack.id for pack in spool.seal(force=False)] == [first.pack]


def test_a_released_pack_is_gone_and_no_longer_answered(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    [place] = spool.put(chunks(b"x"))
    [pack] = spool.seal()
    assert spool.sync() == [pack]
    spool.release(pack)
    spool.release(pack)
    assert (spool.fetch(place), spool.sync(), spool.sealed(), os.listdir(tmp_path)) == (None, [], [], [])


def test_fetching_goes_on_while_packs_are_sealed_and_released(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, limit=20_000)
    made: list[tuple[Place, bytes]] = []
    wrong: list[Place] = []
    stop = threading.Event()
    released: set[str] = set()

    def fetch() -> None:
        while not stop.is_set():
            for place, data in made[-50:]:
                gone = place.pack in released
                record = spool.fetch(place)
                if record is None:
                    if not gone and place.pack not in released:
                        wrong.append(place)
                elif Sealer(place.pack, KEYS).open(record, place)[1] != data:
                    wrong.append(place)

    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for each in threads:
        each.start()
    for at in range(400):
        data = noise(1000, at)
        made.append((spool.put(chunks(data))[0], data))
        for pack in spool.seal(force=at % 3 == 0)[:1]:
            if at % 2:
                released.add(pack.id)
                spool.release(pack)
    stop.set()
    for each in threads:
        each.join()
    assert wrong == []
    assert len(released) > 20
