"""A second process that helps to lay a large home: the same files, the same errors, and none of it is left behind."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
from kit import AGENT, KEYS, Kit, noise, running
from shapes import difference, shape

from relit.errors import VolumeDamaged, VolumeError
from relit.manifest import Entry, Place
from relit.volumes import laying, peer
from relit.volumes.fetched import Opens, Part
from relit.volumes.helper import Helper, main
from relit.volumes.writing import Data, Laid, Piece


class Watched(Helper):
    """One whose work is counted, and which a test may harm."""

    made: ClassVar[list[Watched]] = []
    ready: ClassVar[threading.Event] = threading.Event()
    deadly = False

    def __init__(self, root: Path) -> None:
        try:
            super().__init__(root, KEYS)
            self.pieces = 0
            self.made.append(self)
        finally:
            self.ready.set()

    def do(self, pieces: Sequence[Piece], fetched: Opens) -> Laid:
        self.pieces += len(pieces)
        if self.deadly:
            self._peer.process.kill()
            self._peer.process.wait()
        return super().do(pieces, fetched)


@pytest.fixture
async def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kit]:
    """Homes however small are laid with help: the first hand waits for the other one."""
    real = laying._Thread.do

    def do(self: laying._Thread, pieces: Sequence[Piece], fetched: Opens) -> Laid:
        Watched.ready.wait(30)
        return real(self, pieces, fetched)

    Watched.ready.clear()
    monkeypatch.setattr(laying._Thread, "do", do)
    monkeypatch.setattr("relit.volumes.peer._MUCH", 0)
    monkeypatch.setattr(peer.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(Watched, "made", [])
    monkeypatch.setattr("relit.volumes.reader._BATCH", 50_000)
    async with running(Kit(tmp_path, helper=Watched)) as made:
        made.home().mkdir(parents=True)
        yield made


def fill(home: Path) -> None:
    """Files of every kind and size, one of them with holes."""
    (home / "folder").mkdir()
    for number in range(60):
        (home / "folder" / f"note-{number}").write_bytes(noise(3_000, number))
    (home / "empty").touch()
    os.symlink("empty", home / "link")
    os.link(home / "folder" / "note-1", home / "second name")
    os.setxattr(home / "folder" / "note-2", "user.colour", b"green")
    (home / "folder" / "note-3").chmod(0o640)
    for number in range(4):
        (home / f"several-{number}").write_bytes(noise(900_000, number))
    with open(home / "sparse", "wb") as file:
        file.write(noise(5_000_000, 77))
        file.seek(9_000_000)
        file.write(noise(1_000_000, 78))
    with closing(sqlite3.connect(home / "db")) as db:
        db.execute("CREATE TABLE t (x BLOB)")
        db.executemany("INSERT INTO t VALUES (?)", [(noise(5_000, number),) for number in range(1500)])
        db.commit()


async def test_what_two_processes_lay_is_what_was_there(kit: Kit) -> None:
    fill(kit.home())
    await kit.take()
    before = shape(kit.home())
    shutil.rmtree(kit.home())
    done = await kit.homes.restore(AGENT, 1)
    assert difference(shape(kit.home()), before) == {}
    assert done.done is not None
    assert done.done.bytes_written > 15_000_000
    [helper] = Watched.made
    assert helper.pieces > 0
    assert helper._peer.process.returncode == 0, "it ended in good order"


async def test_damage_that_the_helper_finds_is_told_as_it_is_told_without_one(kit: Kit) -> None:
    fill(kit.home())
    await kit.take()
    volume = await kit.volume()
    entry = await kit.catalog.entry(volume.id, 1, b"several-1")
    assert entry is not None
    place = (await kit.catalog.places([entry.parts[:16]]))[entry.parts[:16]]
    kit.spool.seal()
    [path] = (kit.base / "spool-local").glob("*.pack")
    flip(path, place)
    shutil.rmtree(kit.home())
    with pytest.raises(VolumeDamaged, match=f"pack {place.pack} is damaged at {place.offset}"):
        await kit.homes.restore(AGENT, 1)
    assert [helper._peer.process.returncode for helper in Watched.made] == [0]


class Nothing:
    """No chunks."""

    def __init__(self) -> None:
        self.parts: Sequence[Part] = ()
        self.sizes: dict[bytes, int] = {}

    def open(self) -> dict[bytes, Data]:
        return {}


def empty(path: bytes) -> Entry:
    return Entry(path=path, kind="file", mode=0o644, uid=os.getuid(), gid=os.getgid(), mtime_ns=1)


def flip(path: Path, place: Place) -> None:
    with open(path, "r+b") as file:
        file.seek(place.offset + place.length // 2)
        [byte] = file.read(1)
        file.seek(place.offset + place.length // 2)
        file.write(bytes([byte ^ 1]))


async def test_a_helper_that_is_killed_is_a_failure_that_can_be_tried_again(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(kit.home())
    await kit.take()
    before = shape(kit.home())
    shutil.rmtree(kit.home())
    monkeypatch.setattr(Watched, "deadly", True)
    with pytest.raises(VolumeError, match="files were not laid down") as told:
        await kit.homes.restore(AGENT, 1)
    assert "ended with -9" in told.value.why
    monkeypatch.setattr(Watched, "deadly", False)
    await kit.homes.restore(AGENT, 1)
    assert difference(shape(kit.home()), before) == {}


def test_what_the_system_refuses_is_an_error_of_the_same_kind(tmp_path: Path) -> None:
    helper = Helper(tmp_path, KEYS)
    try:
        with pytest.raises(FileNotFoundError):
            helper.do([Piece(b"gone/file", empty(b"gone/file"), b"")], Nothing())
        assert helper.do([Piece(b"file", empty(b"file"), b"")], Nothing()) == (0, [])
    finally:
        helper.close()
        helper.close()
    assert (tmp_path / "file").exists()


def test_a_symlink_in_place_of_a_folder_is_refused_and_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to("/tmp")
    helper = Helper(tmp_path, KEYS)
    try:
        with pytest.raises(VolumeError, match="refused to go through") as told:
            helper.do([Piece(b"folder/file", empty(b"folder/file"), b"")], Nothing())
        assert not isinstance(told.value, VolumeDamaged)
    finally:
        helper.close()


def test_input_that_ends_ends_the_helper() -> None:
    told = io.BytesIO()
    main(io.BytesIO(b"\x05\0\0\0\0\0\0\0ab"), told)
    assert told.getvalue() == b""


async def test_where_no_helper_can_be_made_the_home_is_laid_without(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(kit.home())
    await kit.take()
    before = shape(kit.home())
    shutil.rmtree(kit.home())
    monkeypatch.setattr("relit.volumes.peer.sys.executable", "/bin/false")
    await kit.homes.restore(AGENT, 1)
    assert difference(shape(kit.home()), before) == {}
    assert "no second process helps" in caplog.text


def test_ctrl_c_is_not_for_the_helper(tmp_path: Path) -> None:
    helper = Helper(tmp_path, KEYS)
    try:
        assert os.getpgid(helper._peer.process.pid) != os.getpgid(0)
        for number in (signal.SIGINT, signal.SIGTERM):
            helper._peer.process.send_signal(number)
        assert helper.do([Piece(b"file", empty(b"file"), b"")], Nothing()) == (0, [])
    finally:
        helper.close()
    assert helper._peer.process.returncode == 0
