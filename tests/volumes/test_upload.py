"""Sealed packs reach the blob store once, in order, whatever fails on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from relit.errors import StoreUnavailable
from relit.lib import crashpoints
from relit.lib.clock import SYSTEM_CLOCK
from relit.manifest import Pack, Snapshot
from relit.store.objects import FolderObjects
from relit.testing.faults import Chance, FaultyObjects, Scripted
from relit.volumes import upload
from relit.volumes.upload import Uploader, key_of


class Shelf:
    """A spool of finished packs in a folder, and the rows that a catalog keeps of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, Pack] = {}
        self.order: list[str] = []
        self._made = 0

    def add(self) -> Pack:
        self._made += 1
        pack = Pack(id=f"{self._made:032x}", node="n", state="sealed", size=100, created_at_ms=self._made)
        (self.folder / pack.id).write_bytes(b"x" * pack.size)
        return pack

    def seal(self, force: bool = True) -> list[Pack]:
        return []

    def sealed(self) -> list[tuple[Pack, Path]]:
        return [(Pack(id=path.name, node="n", state="sealed", size=100, created_at_ms=int(path.name, 16)), path)
                for path in self.folder.iterdir()]  # fmt: skip

    def release(self, pack: Pack) -> None:
        (self.folder / pack.id).unlink()

    async def put_packs(self, packs: Sequence[Pack]) -> None:
        for pack in packs:
            assert self.rows.get(pack.id, pack).state == "sealed", "a stored pack is never sealed again"
            self.rows[pack.id] = pack

    async def packs(self, states: Sequence[str] = (), node: str | None = None) -> list[Pack]:
        return [pack for pack in self.rows.values() if pack.state in states]

    async def stored(self, pack: str) -> list[Snapshot]:
        row = self.rows[pack]
        self.rows[pack] = Pack(id=pack, node="n", state="stored", size=row.size, created_at_ms=row.created_at_ms)
        self.order.append(pack)
        return [Snapshot(id=pack, volume="v", number=1, at_ms=1, reason="interval")]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    folder = tmp_path / "spool"
    folder.mkdir()
    return Shelf(folder)


def uploader(shelf: Shelf, objects: FaultyObjects, interval_s: float = 10) -> Uploader:
    return Uploader(shelf, shelf, objects, "n", SYSTEM_CLOCK, interval_s, chance=Random(1))  # type: ignore[arg-type]


def faulty(tmp_path: Path, *faults: object) -> FaultyObjects:
    return FaultyObjects(FolderObjects(tmp_path / "objects"), Scripted(*faults))  # type: ignore[arg-type]


async def test_packs_are_stored_in_order_and_leave_the_spool(shelf: Shelf, tmp_path: Path) -> None:
    packs, objects = [shelf.add() for _ in range(3)], faulty(tmp_path)
    assert [each.id for each in await uploader(shelf, objects).flush()] == [pack.id for pack in packs]
    assert shelf.order == [pack.id for pack in packs]
    assert shelf.sealed() == []
    assert await objects.get(key_of(packs[0].id)) == b"x" * 100


async def test_a_pack_costs_one_request_and_nothing_new_costs_none(shelf: Shelf, tmp_path: Path) -> None:
    objects = faulty(tmp_path)
    loads = uploader(shelf, objects)
    await loads.flush()
    shelf.add()
    await loads.flush()
    await loads.flush()
    assert objects.requests == {"put_file": 1}
    assert (loads.done.requests, loads.done.per_snapshot) == (1, 1.0)


async def test_an_upload_that_timed_out_after_success_is_not_sent_again(shelf: Shelf, tmp_path: Path) -> None:
    objects = faulty(tmp_path, ("put_file", "late"))
    loads = uploader(shelf, objects)
    await loads.flush()
    shelf.add()
    with pytest.raises(StoreUnavailable):
        await loads.flush()
    assert isinstance(loads.trouble, StoreUnavailable)
    assert loads.behind_ms > 0
    await loads.flush()
    assert objects.requests == {"put_file": 1, "head": 1}
    assert [loads.trouble, loads.behind_ms] == [None, 0]


@pytest.mark.parametrize("fault", ["error", "torn"])
async def test_an_upload_that_failed_is_sent_again(shelf: Shelf, tmp_path: Path, fault: str) -> None:
    objects = faulty(tmp_path, ("put_file", fault))
    loads = uploader(shelf, objects)
    shelf.add()
    with pytest.raises(StoreUnavailable):
        await loads.flush()
    assert len(shelf.sealed()) == 1
    await loads.flush()
    assert (objects.requests["put_file"], len(shelf.order)) == (2, 1)


async def test_a_later_pack_never_overtakes_one_that_failed(shelf: Shelf, tmp_path: Path) -> None:
    objects = FaultyObjects(FolderObjects(tmp_path / "objects"), Chance(5, 0.5))
    loads, packs = uploader(shelf, objects), [shelf.add() for _ in range(20)]
    while len(shelf.order) < len(packs):
        try:
            await loads.flush()
        except StoreUnavailable:
            continue
    assert objects.happened
    assert shelf.order == [pack.id for pack in packs]


class Ended(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("name", upload.POINTS)
async def test_after_an_end_anywhere_the_next_process_finishes(shelf: Shelf, tmp_path: Path, name: str) -> None:
    def end(at: str) -> None:
        if at == name:
            raise Ended

    pack, objects = shelf.add(), faulty(tmp_path)
    crashpoints.install(end)
    try:
        with pytest.raises(Ended):
            await uploader(shelf, objects).flush()
    finally:
        crashpoints.install(None)
    await uploader(shelf, objects).flush()
    assert (shelf.sealed(), shelf.rows[pack.id].state) == ([], "stored")
    assert objects.requests["put_file"] == 1


async def test_the_loop_uploads_by_itself_and_stops_twice(shelf: Shelf, tmp_path: Path) -> None:
    loads, pack = uploader(shelf, faulty(tmp_path), interval_s=0.001), shelf.add()
    await loads.start()
    async with asyncio.timeout(5):
        while loads.done.packs == 0:
            await asyncio.sleep(0.001)
    await loads.stop()
    await loads.stop()
    assert shelf.order == [pack.id]
