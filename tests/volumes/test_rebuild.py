"""Volumes come back from packs alone, also when some of these are harmed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kit import AGENT, HOUR, Kit, noise, running
from shapes import Shape, difference, shape

from relit.errors import StoreUnavailable
from relit.store.objects import FolderObjects
from relit.testing.faults import FaultyObjects, Scripted
from relit.volumes.pack import Described
from relit.volumes.retention import parse_keep


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    async with running(Kit(tmp_path, keep="9d all")) as made:
        made.home().mkdir(parents=True)
        yield made


async def versions(kit: Kit, count: int) -> dict[int, Shape]:
    shapes = {}
    for no in range(1, count + 1):
        (kit.home() / "long").write_bytes(b"SQLite format 3\0" + noise(1_500_000 + no * 20_000, no // 2))
        (kit.home() / f"own{no}").write_bytes(noise(40_000, no))
        (kit.home() / f"own{no - 1}").unlink(missing_ok=True)
        taken = await kit.take()
        await kit.uploader.flush()
        shapes[taken.number] = shape(kit.home())
    return shapes


async def record_of(kit: Kit, number: int) -> tuple[Path, Described]:
    """The manifest record of a snapshot, and its pack."""
    for path in kit.pack_files():
        for each in (await kit.open_pack(path.name).index()).manifests:
            if each.number == number:
                return path, each
    raise AssertionError(number)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


async def same(other: Kit, wanted: dict[int, Shape], agent: str = AGENT) -> None:
    assert await other.numbers(agent) == sorted(wanted)
    for number, expected in wanted.items():
        assert difference(shape(await other.lay(number, other.base / f"laid-{agent}-{number}", agent)), expected) == {}


async def test_all_volumes_and_snapshots_come_back(kit: Kit) -> None:
    shapes = await versions(kit, 4)
    await kit.homes.fork(AGENT, 2, "eve")
    await kit.homes.laid()
    for snapshot in await kit.catalog.undescribed("local"):
        await kit.consolidator.describe(await kit.volume("eve"), snapshot)
    await kit.uploader.flush()
    other, done = await kit.rebuilt(kit.base / "other")
    async with stopping(other):
        assert (done.volumes, done.snapshots, done.problems) == (2, 5, [])
        await same(other, shapes)
        await same(other, {1: shapes[2]}, "eve")
        again = await other.rebuilder.rebuild()
        assert (again.volumes, again.snapshots, again.packs, again.problems) == (0, 0, 0, [])
        assert await told(other) == await told(kit)


async def told(kit: Kit) -> list[tuple[object, ...]]:
    """What is said of each snapshot."""
    some = await kit.catalog.snapshots((await kit.volume()).id)
    return [(each.id, each.number, each.at_ms, each.reason, each.files, each.bytes, each.skipped) for each in some]


@asynccontextmanager
async def stopping(kit: Kit) -> AsyncIterator[Kit]:
    """Stopped after the block."""
    try:
        yield kit
    finally:
        await kit.stop()


async def test_a_rebuilt_volume_goes_on(kit: Kit) -> None:
    shapes = await versions(kit, 2)
    other, _ = await kit.rebuilt(kit.base / "other")
    async with stopping(other):
        await other.homes.restore(AGENT, 1)
        assert difference(shape(other.home()), shapes[1]) == {}
        (other.home() / "new").write_text("goes on")
        taken = await other.take()
        assert taken.number > 2
        laid = await other.lay(taken.number, other.base / "laid")
        assert difference(shape(laid), shape(other.home())) == {}


async def test_it_is_the_same_after_pruning_and_consolidation(kit: Kit) -> None:
    shapes = await versions(kit, 6)
    kit.tiers = parse_keep("1h all")
    await kit.catalog.pin((await kit.volume()).id, 3, True)
    for _ in range(3):
        kit.later.offset += 2 * HOUR
        await kit.pruner.prune()
    other, done = await kit.rebuilt(kit.base / "other")
    async with stopping(other):
        assert done.problems == []
        await same(other, {3: shapes[3], 6: shapes[6]})


@pytest.mark.parametrize(("number", "left"), [(1, []), (2, [1]), (4, [1, 2, 3])])
async def test_a_flipped_record_is_told_and_what_does_not_hang_on_it_comes_back(
    kit: Kit, number: int, left: list[int]
) -> None:
    shapes = await versions(kit, 4)
    path, record = await record_of(kit, number)
    flip(path, record.offset + record.length // 2)
    other, done = await kit.rebuilt(kit.base / "other")
    async with stopping(other):
        assert any("manifest record was left out" in each for each in done.problems)
        if left:
            await same(other, {each: shapes[each] for each in left})
        else:
            assert await other.catalog.volumes() == []
            assert any("no tree to begin from" in each for each in done.problems)


async def test_a_second_record_of_a_snapshot_stands_in_for_a_flipped_one(kit: Kit) -> None:
    shapes = await versions(kit, 4)
    path, record = await record_of(kit, 2)
    await kit.consolidator.write(await kit.volume())
    await kit.uploader.flush()
    flip(path, record.offset + record.length // 2)
    other, _ = await kit.rebuilt(kit.base / "other")
    async with stopping(other):
        await same(other, shapes)


async def test_a_lost_pack_loses_the_snapshots_that_need_it_and_no_others(kit: Kit) -> None:
    shapes = await versions(kit, 4)
    await kit.consolidator.write(await kit.volume())
    await kit.uploader.flush()
    tree = await kit.tree(3)
    id = tree[b"own3"].parts[:16]
    kit.pack_file((await kit.catalog.places([id]))[id].pack).unlink()
    needs = {n for n in shapes if n == 3 or await shares(kit, n, 3)}
    other, done = await kit.rebuilt(kit.base / "other")
    async with stopping(other):
        assert any("own3" in each or "long" in each for each in done.problems)
        await same(other, {n: shapes[n] for n in shapes if n not in needs})


async def shares(kit: Kit, number: int, other: int) -> bool:
    """Whether a snapshot needs chunks that came with another one."""
    volume = (await kit.volume()).id
    wanted = {s.ids[at : at + 16] for s in await kit.catalog.all_segments(volume, number) for at in range(0, 1024, 16)}
    gone = set((await kit.catalog.places(sorted(wanted - {b""}))).values())
    return any(not kit.pack_file(place.pack).exists() for place in gone)


async def test_a_name_that_is_taken_is_told_and_does_not_stop_the_rest(kit: Kit) -> None:
    shapes = await versions(kit, 2)
    (kit.home("eve")).mkdir(parents=True)
    (kit.home("eve") / "note").write_text("1")
    await kit.take("eve")
    await kit.uploader.flush()
    other = Kit(kit.base / "other", objects=kit.objects)
    await other.start()
    async with stopping(other):
        other.home().mkdir(parents=True)
        await other.take()
        done = await other.rebuilder.rebuild()
        assert any(AGENT in each for each in done.problems)
        assert await other.numbers() == [1]
        assert await other.numbers("eve") == [1]
        assert shapes


async def test_a_list_that_fails_ends_it_and_it_can_be_run_again(tmp_path: Path) -> None:
    async with running(Kit(tmp_path, keep="9d all")) as kit:
        kit.home().mkdir(parents=True)
        shapes = await versions(kit, 3)
        objects = FaultyObjects(FolderObjects(tmp_path / "blobs"), Scripted(("list", "failing")))
        other = Kit(tmp_path / "other", objects=objects)
        await other.start()
        async with stopping(other):
            with pytest.raises(StoreUnavailable):
                await other.rebuilder.rebuild()
            assert await other.catalog.volumes() == []
            objects.plan = Scripted(("get_ranges", None), ("get_ranges", None), ("get_ranges", "error"))
            with pytest.raises(StoreUnavailable):
                await other.rebuilder.rebuild()
            await other.rebuilder.rebuild()
            await same(other, shapes)


async def test_a_foreign_object_is_left_out_and_told(kit: Kit) -> None:
    shapes = await versions(kit, 2)
    strange = kit.base / "blobs" / "packs" / "zz" / "not-a-pack"
    strange.parent.mkdir()
    strange.write_bytes(b"something else")
    other, done = await kit.rebuilt(kit.base / "other")
    async with stopping(other):
        assert any("not-a-pack" in each for each in done.problems)
        await same(other, shapes)
