"""Pruning takes what nothing needs, in two phases, and touches nothing that it does not know for sure."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from kit import AGENT, DAY, HOUR, Kit, noise, running
from shapes import Shape, difference, shape

from relit.errors import NotFound, Overtaken, RelitError, StoreUnavailable, VolumeDamaged
from relit.manifest import Commit, Delta, Snapshot
from relit.store.objects import FolderObjects
from relit.testing.faults import FaultyObjects, Operation, Scripted
from relit.volumes.base import Catalog
from relit.volumes.prune import Pruned
from relit.volumes.retention import parse_keep


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    async with running(Kit(tmp_path)) as made:
        made.home().mkdir(parents=True)
        yield made


async def versions(kit: Kit, *sizes: int) -> list[Shape]:
    """A snapshot, and a pack, for each size; each replaces the file of the one before."""
    shapes = []
    for no, size in enumerate(sizes):
        (kit.home() / "data").write_bytes(noise(size, no + 1))
        (kit.home() / f"stays{no}").write_text(str(no))
        await kit.take()
        await kit.uploader.flush()
        shapes.append(shape(kit.home()))
    return shapes


async def prune(kit: Kit, after_ms: int = 0) -> Pruned:
    kit.later.offset += after_ms
    return await kit.pruner.prune()


async def sound(kit: Kit, wanted: dict[int, Shape], name: str = "laid") -> None:
    """Those snapshots are as they were, also when they are rebuilt from packs alone; nothing is damaged."""
    assert await kit.numbers() == sorted(wanted)
    for number, expected in wanted.items():
        assert difference(shape(await kit.lay(number, kit.base / f"{name}-{number}")), expected) == {}
    assert (await kit.verifier.verify()).damage == []
    other, done = await kit.rebuilt(kit.base / f"{name}-other")
    try:
        assert done.problems == []
        assert set(await other.numbers()) >= wanted.keys()
        for number, expected in wanted.items():
            assert difference(shape(await other.lay(number, kit.base / f"{name}-re{number}")), expected) == {}
    finally:
        await other.stop()


async def test_what_only_dropped_snapshots_needed_goes_in_two_phases(kit: Kit) -> None:
    *_, last = await versions(kit, 300_000, 300_000, 300_000)
    before = {path.name for path in kit.pack_files()}
    first = await prune(kit, 2 * HOUR)
    assert [each.snapshot.number for each in first.dropped] == [2, 1]
    assert first.condemned == 2
    assert before <= {path.name for path in kit.pack_files()}, "nothing is deleted before the grace is over"
    await sound(kit, {3: last}, "condemned")
    early = await prune(kit, HOUR // 2)
    assert early.deleted == 0
    second = await prune(kit, HOUR)
    assert second.deleted == 2
    assert len(before & {path.name for path in kit.pack_files()}) == 1
    await sound(kit, {3: last}, "deleted")


async def test_rounds_with_nothing_to_do_do_nothing(kit: Kit) -> None:
    *_, last = await versions(kit, 300_000, 300_000, 300_000)
    for _ in range(4):
        await prune(kit, 2 * HOUR)
    packs, requests = {path.name for path in kit.pack_files()}, kit.uploader.done.packs
    for _ in range(4):
        done = await prune(kit, 2 * HOUR)
        assert (done.condemned, done.deleted, done.repacked) == (0, 0, 0)
    assert {path.name for path in kit.pack_files()} == packs
    assert kit.uploader.done.packs == requests
    await sound(kit, {3: last})


async def test_a_snapshot_of_metadata_alone_outlives_pruning(kit: Kit) -> None:
    await versions(kit, 300_000)
    (kit.home() / "data").chmod(0o640)
    await kit.take()
    await kit.uploader.flush()
    kit.tiers = parse_keep("9d all")
    for _ in range(4):
        await prune(kit, 2 * HOUR)
    assert await kit.numbers() == [1, 2]
    other, done = await kit.rebuilt(kit.base / "other")
    try:
        assert done.problems == []
        assert (await other.tree(2))[b"data"].mode == 0o640
    finally:
        await other.stop()


async def test_packs_that_are_mostly_dead_are_written_anew(kit: Kit) -> None:
    home = kit.home()
    for no in range(8):
        (home / f"file{no}").write_bytes(noise(100_000, no))
    await kit.take()
    await kit.uploader.flush()
    [first] = kit.pack_files()
    for no in range(1, 8):
        (home / f"file{no}").unlink()
    await kit.take()
    await kit.uploader.flush()
    wanted = shape(home)
    assert (await prune(kit, 2 * HOUR)).repacked == 1
    await sound(kit, {2: wanted}, "copied")
    assert (await prune(kit, 2 * HOUR)).deleted >= 1
    assert not first.exists()
    assert sum(path.stat().st_size for path in kit.pack_files()) < 250_000
    await sound(kit, {2: wanted}, "deleted")


async def test_many_small_packs_become_few(kit: Kit) -> None:
    kit.tiers = parse_keep("9d all")
    shapes = await versions(kit, *[20_000] * 34)
    assert len(kit.pack_files()) == 34
    await prune(kit, 2 * HOUR)
    await prune(kit, 2 * HOUR)
    assert len(kit.pack_files()) < 5
    await sound(kit, {1: shapes[0], 17: shapes[16], 34: shapes[33]} | {n: shapes[n - 1] for n in range(1, 35)})


async def test_a_dry_run_tells_and_does_nothing(kit: Kit) -> None:
    await versions(kit, 300_000, 300_000)
    kit.later.offset += 2 * HOUR
    told = await kit.pruner.prune(dry_run=True)
    assert [each.snapshot.number for each in told.dropped] == [1]
    assert await kit.numbers() == [1, 2]
    assert [pack.state for pack in await kit.catalog.packs()] == ["stored", "stored"]


async def test_pinned_and_tagged_snapshots_stay(kit: Kit) -> None:
    shapes = await versions(kit, *[100_000] * 5)
    volume = (await kit.volume()).id
    await kit.catalog.pin(volume, 1, True)
    await kit.catalog.tag(volume, 3, "release")
    await prune(kit, 40 * DAY)
    await prune(kit, 2 * HOUR)
    await sound(kit, {1: shapes[0], 3: shapes[2], 5: shapes[4]})


class TaggedMeanwhile:
    """A catalog in which a snapshot gets a name just before old ones are dropped."""

    def __init__(self, kit: Kit, number: int) -> None:
        self._kit, self._number = kit, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kit.catalog, name)

    async def drop_snapshots(self, volume: str, numbers: Sequence[int]) -> list[int]:
        await self._kit.catalog.tag(volume, self._number, "before-upgrade")
        return await self._kit.catalog.drop_snapshots(volume, numbers)


async def test_a_snapshot_that_is_named_while_prune_runs_stays_and_the_others_go(kit: Kit) -> None:
    shapes = await versions(kit, 100_000, 100_000, 100_000)
    kit.later.offset += 2 * HOUR
    done = await kit.made_pruner(cast(Catalog, TaggedMeanwhile(kit, 1))).prune()
    assert [each.snapshot.number for each in done.dropped] == [2]
    await sound(kit, {1: shapes[0], 3: shapes[2]})


async def test_rounds_follow_each_other(kit: Kit) -> None:
    *_, last = await versions(kit, *[300_000] * 3)
    await prune(kit, 2 * HOUR)
    kit.later.offset += 2 * HOUR
    one, two = await asyncio.gather(kit.pruner.prune(), kit.pruner.prune())
    assert (one.deleted, two.deleted) == (2, 0)
    await sound(kit, {3: last})


async def test_the_newest_of_each_tier_stays(tmp_path: Path) -> None:
    kit = Kit(tmp_path, keep="1h all, 2d hourly")
    async with running(kit):
        kit.home().mkdir(parents=True)
        for no in range(6):
            (kit.home() / "data").write_text(str(no))
            await kit.take()
            kit.clock.offset = kit.later.offset = (no + 1) * HOUR // 2
        await kit.pruner.prune()
        some = {each.number: each.at_ms for each in await kit.catalog.snapshots((await kit.volume()).id)}
        now = kit.later.now_ms()
        young = {number for number, at in some.items() if now - at < HOUR}
        hours = [at // HOUR for number, at in some.items() if number not in young]
        assert 6 in some
        assert len(hours) == len(set(hours))
        with pytest.raises(NotFound):
            await kit.pruner.prune("nobody")


async def test_a_pack_that_is_needed_again_is_taken_back(kit: Kit) -> None:
    await versions(kit, 300_000, 300_000)
    [old] = [pack for pack in await kit.catalog.packs() if pack.created_at_ms == min(await ages(kit))]
    await prune(kit, 2 * HOUR)
    tree = await kit.tree(2)
    places = [each for each in await kit.catalog.chunks_of(old.id) if each[0] not in tree[b"stays0"].parts]
    again = Snapshot(id="again", volume=(await kit.volume()).id, number=3, at_ms=1, reason="request")
    ids = b"".join(id for id, _ in places)
    delta = Delta(entries=[tree[b"data"].__class__(b"again", "file", 0o600, 0, 0, 1, 0, len(places), ids)])
    with pytest.raises(Overtaken):
        await kit.catalog.commit(Commit(snapshot=again, delta=delta, at=None, reused=[id for id, _ in places]))
    assert await kit.catalog.known([id for id, _ in places], "local") == set()
    await kit.catalog.commit(Commit(snapshot=again, delta=delta, at=None))  # as one that came before the condemnation
    done = await prune(kit, 2 * HOUR)
    assert (done.reprieved, done.deleted) == (1, 0)
    assert kit.pack_file(old.id).exists()


async def ages(kit: Kit) -> Iterable[int]:
    return [pack.created_at_ms for pack in await kit.catalog.packs()]


async def test_a_chunk_that_was_dropped_and_comes_back_is_kept(kit: Kit) -> None:
    (kit.home() / "data").write_bytes(noise(300_000, 1))
    await kit.take()
    await kit.uploader.flush()
    (kit.home() / "data").write_bytes(noise(300_000, 2))
    await kit.take()
    await kit.uploader.flush()
    await prune(kit, 2 * HOUR)  # the first content's pack is condemned
    (kit.home() / "data").write_bytes(noise(300_000, 1))
    await kit.take()
    await kit.uploader.flush()
    wanted = shape(kit.home())
    kit.tiers = parse_keep("9d all")
    await prune(kit, 2 * HOUR)
    assert difference(shape(await kit.lay(3, kit.base / "laid")), wanted) == {}
    assert (await kit.verifier.verify()).damage == []


FAILING: list[tuple[Operation, str]] = [
    ("list", "error"),
    ("list", "failing"),
    ("list", "stale"),
    ("get_ranges", "error"),
    ("get_ranges", "torn"),
    ("put_file", "error"),
    ("put_file", "torn"),
]


@pytest.mark.parametrize(("operation", "fault"), FAILING)
async def test_a_fault_ends_the_round_before_anything_is_condemned(
    tmp_path: Path, operation: Operation, fault: str
) -> None:
    plan = Scripted()
    objects = FaultyObjects(FolderObjects(tmp_path / "blobs"), plan)
    async with running(Kit(tmp_path, objects=objects)) as kit:
        kit.home().mkdir(parents=True)
        for no in range(8):
            (kit.home() / f"file{no}").write_bytes(noise(100_000, no))
        *_, last = await versions(kit, 100_000)
        for no in range(1, 8):
            (kit.home() / f"file{no}").unlink()
        *_, last = await versions(kit, 100_000)
        before = {path.name for path in kit.pack_files()}
        objects.plan = faults = Scripted((operation, fault))  # type: ignore[arg-type]
        kit.later.offset += 2 * HOUR
        with pytest.raises(RelitError) as failed:
            await kit.pruner.prune()
        assert faults.done
        assert isinstance(failed.value, StoreUnavailable | VolumeDamaged)
        assert before <= {path.name for path in kit.pack_files()}
        assert operation != "list" or await kit.numbers() == [1, 2]
        assert [pack.state for pack in await kit.catalog.packs() if pack.id in before] == ["stored"] * len(before)
        await prune(kit, 2 * HOUR)
        await prune(kit, 2 * HOUR)
        await sound(kit, {2: last})


@pytest.mark.parametrize("loss", ["deleted", "cut"])
async def test_a_pack_that_is_not_as_it_was_stored_stops_pruning(kit: Kit, loss: str) -> None:
    await versions(kit, 300_000, 300_000)
    victim = kit.pack_files()[0]
    before = [*kit.pack_files()]
    if loss == "deleted":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(VolumeDamaged, match=r"nothing was pruned"):
        await prune(kit, 2 * HOUR)
    assert await kit.numbers() == [1, 2]
    assert {pack.state for pack in await kit.catalog.packs()} == {"stored"}
    assert [path for path in before if path.exists()] == kit.pack_files()


async def test_objects_that_nobody_knows_are_counted_and_left_alone(kit: Kit) -> None:
    await versions(kit, 300_000, 300_000)
    strange = kit.base / "blobs" / "packs" / "ab" / ("ab" * 16)
    strange.parent.mkdir(exist_ok=True)
    shutil.copy(kit.pack_files()[0], strange)
    assert (await prune(kit, 2 * HOUR)).unknown == 1
    assert (await prune(kit, 2 * HOUR)).deleted == 1
    assert strange.exists()


async def test_packs_of_another_node_are_left_alone(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        kit.home().mkdir(parents=True)
        *_, last = await versions(kit, 300_000, 300_000)
    async with running(Kit(tmp_path, node="other")) as other:
        done = await prune(other, 2 * HOUR)
        await prune(other, 2 * HOUR)
        assert (done.condemned, len(other.pack_files())) == (0, 2)
    async with running(Kit(tmp_path)) as kit:
        assert (await prune(kit, 6 * HOUR)).condemned == 1
        await prune(kit, 2 * HOUR)
        await sound(kit, {2: last})


async def test_a_young_pack_is_not_condemned(tmp_path: Path) -> None:
    async with running(Kit(tmp_path, keep="5m all", young_ms=HOUR)) as kit:
        kit.home().mkdir(parents=True)
        await versions(kit, 300_000, 300_000)
        done = await prune(kit, HOUR // 2)
        assert (len(done.dropped), done.condemned) == (1, 0)
        assert (await prune(kit, HOUR)).condemned == 1


async def test_a_removed_volume_leaves_nothing_behind(kit: Kit) -> None:
    await versions(kit, 300_000, 300_000)
    await kit.homes.forget(AGENT)
    await prune(kit, 2 * HOUR)
    await prune(kit, 2 * HOUR)
    assert kit.pack_files() == []
