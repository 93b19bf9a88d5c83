"""A second process that seals chunks: the same records, whatever becomes of it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packs_for_tests import KEYS, VOLUME, chunks, content, delta, noise, snapshot, spool_in, text

from relit.errors import VolumeError
from relit.volumes import peer, sealing
from relit.volumes.keys import Keys
from relit.volumes.pack import CHUNK, Sealer
from relit.volumes.sealing import Sealed, Sealing, SealingHelper
from relit.volumes.spool import Spool

PACK = "ab" * 16
SOME = [b"", b"x", text(300_000), noise(200_000), *(b"%d" % at for at in range(200))]
both = pytest.mark.parametrize("keys", [KEYS, None], ids=["encrypted", "plain"])


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little it is, a helper is worthwhile."""
    monkeypatch.setattr(peer, "_MUCH", 0)
    monkeypatch.setattr(sealing, "_WORTH", 0)
    monkeypatch.setattr(peer.os, "sched_getaffinity", lambda _: {0, 1})


@pytest.fixture
def helper() -> Iterator[SealingHelper]:
    made = SealingHelper(KEYS)
    yield made
    made.close()


def taken(sealed: Sealed | None) -> list[bytes]:
    """The records, out of memory that is given back."""
    assert sealed is not None
    made, at = [], 0
    for length in sealed.lengths:
        made.append(bytes(sealed.records[at : at + length]))
        at += length
    sealed.close()
    return made


def ready(made: Sealing | Spool) -> None:
    """Have a helper made; return when it is there, or cannot be."""
    helped = made._help if isinstance(made, Spool) else made
    assert helped.seal(PACK, 0, [b"the first"]) is None
    starting = helped._starting
    assert starting is not None
    starting.join(30)


@both
def test_its_records_are_those_that_this_process_makes(keys: Keys | None) -> None:
    helper = SealingHelper(keys)
    try:
        assert taken(helper.seal(PACK, 7, SOME)) == Sealer(PACK, keys).seal_all(CHUNK, 7, SOME)
        assert taken(helper.seal("cd" * 16, 0, [b"y"])) == Sealer("cd" * 16, keys).seal_all(CHUNK, 0, [b"y"])
    finally:
        helper.close()
        helper.close()
    assert helper._peer.process.returncode == 0


def test_many_threads_get_each_their_own(helper: SealingHelper) -> None:
    def one(number: int) -> bool:
        contents = [noise(50_000, number), b"%d" % number, text(number * 1000)]
        while (sealed := helper.seal(PACK, number * 3, contents)) is None:
            time.sleep(0.001)
        return taken(sealed) == Sealer(PACK, KEYS).seal_all(CHUNK, number * 3, contents)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(one, range(60)))


def test_more_than_there_is_room_for_is_not_for_the_helper() -> None:
    made = Sealing(KEYS)
    with made.wanted(1):
        ready(made)
        assert made.seal(PACK, 0, [noise(sealing.ROOM // 8)] * 8) is None
        assert len(taken(made.seal(PACK, 0, [noise(sealing.ROOM // 10)] * 9))) == 9


def test_a_helper_stays_as_long_as_anybody_wants_it(caplog: pytest.LogCaptureFixture) -> None:
    made = Sealing(KEYS)
    with made.wanted(1):
        ready(made)
        first = made._helper
        assert first is not None
        with made.wanted(1):
            assert made._helper is first
        assert first._peer.process.poll() is None
        taken(made.seal(PACK, 0, SOME))
    assert first._peer.process.returncode == 0
    assert made.seal(PACK, 0, SOME) is None
    with made.wanted(1):
        ready(made)
        taken(made.seal(PACK, 0, SOME))
    made.close()
    assert caplog.text == ""


def test_a_little_is_not_worth_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_MUCH", 100)
    made = Sealing(KEYS)
    with made.wanted(99):
        assert made.seal(PACK, 0, SOME) is None
        assert made._starting is None
    monkeypatch.setattr(sealing, "_WORTH", 1_000_000)
    with made.wanted(100):
        assert made.seal(PACK, 0, SOME) is None
        assert made._starting is None


def test_where_none_can_be_made_everything_is_sealed_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peer.sys, "executable", "/bin/false")
    spool = spool_in(tmp_path)
    with spool.helped(1):
        ready(spool)
        places = spool.put(chunks(*SOME))
    assert [content(spool, place) for place in places] == SOME
    assert "no second process helps to seal" in caplog.text
    spool.close()


@both
def test_a_helper_that_is_killed_costs_nothing(
    tmp_path: Path, keys: Keys | None, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_in(tmp_path, keys)
    with caplog.at_level(logging.WARNING), spool.helped(1):
        ready(spool)
        places = spool.put(chunks(*SOME, keys=keys))
        helper = spool._help._helper
        assert helper is not None
        helper._peer.process.kill()
        places += spool.put(chunks(*SOME, keys=keys)) + spool.put(chunks(*SOME, keys=keys))
    assert [content(spool, place, keys) for place in places] == SOME * 3
    assert caplog.text.count("no second process helps to seal any more") == 1
    assert helper._peer.process.returncode == -9
    spool.close()


def test_a_dead_helper_is_an_error_of_its_kind(helper: SealingHelper) -> None:
    helper._peer.process.kill()
    for _ in range(3):  # no memory is lost by that
        with pytest.raises(VolumeError, match="chunks were not sealed"):
            helper.seal(PACK, 0, SOME)


def test_a_helper_is_let_go_when_nobody_is_inside(helper: SealingHelper) -> None:
    lent = helper.seal(PACK, 0, SOME)
    assert lent is not None
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(helper.close)
        with pytest.raises(TimeoutError):
            closing.result(0.2)
        assert helper._peer.process.poll() is None
        assert taken(lent) == Sealer(PACK, KEYS).seal_all(CHUNK, 0, SOME)
        closing.result(30)
    assert helper._peer.process.returncode == 0
    assert helper.seal(PACK, 0, SOME) is None, "whoever comes late does it without"


def test_who_comes_when_all_memory_is_lent_does_it_without(helper: SealingHelper) -> None:
    lent = [helper.seal(PACK, 0, SOME), helper.seal(PACK, 0, SOME)]
    assert helper.seal(PACK, 0, SOME) is None
    assert taken(lent[0]) == taken(lent[1])
    assert taken(helper.seal(PACK, 0, [b"x"])) == [Sealer(PACK, KEYS).seal(CHUNK, 0, b"x")]


def test_where_no_thread_can_be_had_everything_is_sealed_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made = Sealing(KEYS)
    with monkeypatch.context() as patched, made.wanted(1):
        patched.setattr(threading.Thread, "start", none)
        assert made.seal(PACK, 0, SOME) is None
    assert "can't start new thread" in caplog.text
    with made.wanted(1):
        ready(made)
        taken(made.seal(PACK, 0, SOME))


def test_packs_that_several_write_at_once_hold_what_each_was_answered(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, limit=2_000_000)
    with spool.helped(1):
        ready(spool)

        def write(number: int) -> bool:
            wanted = [noise(20_000, number * 100 + at) for at in range(20)]
            places = spool.put(chunks(*wanted))
            spool.seal(force=number % 3 == 0)
            return [content(spool, place) for place in places] == wanted

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(write, range(24)))
    spool.seal()
    assert all(pack.size <= 2_000_000 for pack, _ in spool.sealed())
    spool.close()


def test_a_pack_whose_chunks_are_still_being_sealed_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, begun, go = spool_in(tmp_path), threading.Event(), threading.Event()
    real = spool._sealed_records

    def slow(*args: object) -> list[bytes]:
        begun.set()
        assert go.wait(30)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(spool, "_sealed_records", slow)
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(spool.put, chunks(b"a", b"b"))
        assert begun.wait(30)
        assert spool.seal() == []
        go.set()
        places = putting.result(30)
    assert [pack.id for pack in spool.seal()] == [places[0].pack]
    assert [content(spool, place) for place in places] == [b"a", b"b"]
    spool.close()


def test_what_is_sealed_when_the_spool_is_closed_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_in(tmp_path)
    real = spool._sealed_records

    def closing(*args: object) -> list[bytes]:
        spool.close()
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(spool, "_sealed_records", closing)
    with pytest.raises(VolumeError):
        spool.put(chunks(b"a"))


@pytest.mark.parametrize("full", [False, True])
def test_what_is_synced_by_others_while_it_is_sealed_is_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    spool = spool_in(tmp_path)
    spool.put(chunks(b"before"))
    real, synced = spool._sealed_records, dict[int, int]()
    fdatasync = os.fdatasync

    def meanwhile(*args: object) -> list[bytes]:
        made = real(*args)  # type: ignore[arg-type]
        spool.sync()
        if full:
            spool.seal()
        return made

    def noted(fd: int) -> None:
        synced[fd] = os.fstat(fd).st_size
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", noted)
    with monkeypatch.context() as patched:
        patched.setattr(spool, "_sealed_records", meanwhile)
        [place] = spool.put(chunks(b"wanted"))
    into = next(each for each in spool._unsealed() if each.id == place.pack)
    synced.clear()
    if full:  # the pack takes nothing more, so that the delta goes into another one
        spool.put_delta(VOLUME, snapshot(), delta(b"f"))
    spool.sync()
    assert synced[into.fd] >= place.offset + place.length
    spool.close()
