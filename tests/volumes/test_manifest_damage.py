"""Flipped bits in the store's manifest: they are named, prune harms nothing for them, and packs put them right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import apsw
import msgspec
import pytest
from kit import AGENT, HOUR, Kit, noise, running
from shapes import Shape, difference, shape

from relit.errors import VolumeDamaged
from relit.manifest import Delta, Entry
from relit.volumes.audit import Audit
from relit.volumes.retention import parse_keep
from relit.volumes.spans import summed_body


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    """Four snapshots in as many packs. ``early`` is in the first two, ``long`` has segments, ``stays`` is in all."""
    async with running(Kit(tmp_path, keep="9d all")) as made:
        home = made.home()
        (home / "sub").mkdir(parents=True)
        (home / "sub" / "stays").write_bytes(noise(90_000))
        (home / "early").write_bytes(noise(70_000, 1))
        for no in range(1, 5):
            (home / "long-wal").write_bytes(noise(1_200_000 + no * 20_000, 2 + no // 3))
            (home / f"own{no}").write_bytes(noise(60_000, no + 10))
            if no == 3:
                (home / "early").unlink()
            await made.take()
            await made.uploader.flush()
        yield made


def rows(kit: Kit, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(kit.base / "relit.db"))
    try:
        return [*connection.execute(sql, values)]
    finally:
        connection.close()


def body_of(kit: Kit, path: bytes) -> tuple[int, Entry]:
    [(since, body)] = rows(kit, "SELECT since, body FROM entries WHERE path = ? ORDER BY since LIMIT 1", path)
    return since, msgspec.msgpack.decode(body, type=Entry)


def rewrite(kit: Kit, path: bytes, **changes: Any) -> None:
    since, entry = body_of(kit, path)
    body = msgspec.msgpack.encode(msgspec.structs.replace(entry, **changes))
    rows(kit, "UPDATE entries SET body = ? WHERE path = ? AND since = ?", body, path, since)


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


async def shapes(kit: Kit, name: str) -> dict[int, Shape]:
    return {number: shape(await kit.lay(number, kit.base / f"{name}{number}")) for number in await kit.numbers()}


async def unharmed(kit: Kit, wanted: dict[int, Shape], name: str = "after") -> None:
    assert (await kit.verifier.verify()).damage == []
    assert {n: difference(found, wanted[n]) for n, found in (await shapes(kit, name)).items()} == {
        n: {} for n in wanted
    }


async def prune(kit: Kit) -> None:
    kit.later.offset += 2 * HOUR
    await kit.pruner.prune()


async def test_a_manifest_as_it_was_written_is_sound(kit: Kit) -> None:
    done = await kit.verifier.verify()
    assert (done.damage, done.notes, done.manifests) == ([], [], 1)


async def test_a_flipped_mode_is_named_and_put_right(kit: Kit) -> None:
    wanted = await shapes(kit, "before")
    await kit.catalog.tag((await kit.volume()).id, 1, "named-since")
    rewrite(kit, b"early", mode=body_of(kit, b"early")[1].mode ^ 0o100)
    [damage] = (await kit.verifier.verify()).damage
    assert (damage.volume, damage.paths, damage.snapshots) == (AGENT, [b"early"], [1, 2])
    assert damage.fix == "relit volume rebuild"
    done = await kit.rebuilder.rebuild()
    assert (done.mended, done.problems, done.volumes) == ([AGENT], [], 0)
    await unharmed(kit, wanted)
    assert (await kit.catalog.snapshot((await kit.volume()).id, 1)).tags == ["named-since"]
    assert (await kit.rebuilder.rebuild()).mended == []


async def test_parts_of_a_large_manifest_are_compared_one_after_the_other(kit: Kit) -> None:
    rewrite(kit, b"early", mtime_ns=7)
    rewrite(kit, b"own3", mtime_ns=7)
    damage, notes = await Audit(kit.catalog, kit.open_pack, at_once=200).check(await kit.volume())
    assert [(each.paths, each.snapshots) for each in damage] == [([b"early"], [1, 2]), ([b"own3"], [3, 4])]
    assert notes == []


async def test_a_renamed_row_is_named_under_both_names(kit: Kit) -> None:
    wanted = await shapes(kit, "before")
    rows(kit, "UPDATE entries SET path = ? WHERE path = ?", b"dbrly", b"early")
    [damage] = (await kit.verifier.verify()).damage
    assert (damage.paths, damage.snapshots) == ([b"dbrly", b"early"], [1, 2])
    await kit.rebuilder.rebuild()
    await unharmed(kit, wanted)


async def test_a_row_that_cannot_be_read_harms_no_other_and_is_named(kit: Kit) -> None:
    wanted = await shapes(kit, "before")
    rows(kit, "UPDATE entries SET body = ? WHERE path = ?", b"\xc1", b"early")
    damage = (await kit.verifier.verify()).damage
    assert [(each.paths, each.snapshots) for each in damage] == [([b"early"], [1, 2])]
    for number in (3, 4):
        assert difference(shape(await kit.lay(number, kit.base / f"mid{number}")), wanted[number]) == {}
    with pytest.raises(VolumeDamaged):
        await kit.lay(2, kit.base / "no")
    with pytest.raises(VolumeDamaged):
        await prune(kit)
    await kit.rebuilder.rebuild()
    await unharmed(kit, wanted)


async def test_prune_does_nothing_when_the_manifest_names_a_chunk_that_is_nowhere(kit: Kit) -> None:
    wanted, before = await shapes(kit, "before"), kit.pack_files()
    _, entry = body_of(kit, b"early")
    rewrite(kit, b"early", parts=flipped(entry.parts, 5))
    kit.tiers = parse_keep("1h all")
    for _ in range(2):
        with pytest.raises(VolumeDamaged, match="in no pack") as failed:
            await prune(kit)
    assert f"early of {AGENT} from snapshot 1" in failed.value.why
    assert await kit.numbers() == [1, 2, 3, 4]
    assert kit.pack_files() == before
    assert {pack.state for pack in await kit.catalog.packs()} == {"stored"}
    await kit.rebuilder.rebuild()
    await unharmed(kit, wanted)
    await prune(kit)
    assert await kit.numbers() == [4]


async def test_a_flipped_row_of_a_chunk_is_found_and_put_right(kit: Kit) -> None:
    wanted = await shapes(kit, "before")
    id = body_of(kit, b"early")[1].parts[:16]
    rows(kit, "UPDATE chunks SET id = ? WHERE id = ?", flipped(id, 3), id)
    damage = (await kit.verifier.verify()).damage
    assert any((each.paths, each.snapshots) == ([b"early"], [1, 2]) for each in damage)
    with pytest.raises(VolumeDamaged, match="in no pack"):
        await prune(kit)
    assert (await kit.rebuilder.rebuild()).problems == []
    await unharmed(kit, wanted)


async def test_a_damaged_manifest_is_not_written_to_packs_anew(kit: Kit) -> None:
    """Else it would be what packs tell, and the true one would go with the old packs."""
    kit.tiers = parse_keep("1h all")
    mode = body_of(kit, b"sub/stays")[1].mode
    rewrite(kit, b"sub/stays", mode=mode ^ 0o100)
    before = kit.pack_files()
    with pytest.raises(VolumeDamaged, match="nothing was condemned") as failed:
        await prune(kit)
    assert "sub/stays" in failed.value.why
    assert set(before) <= set(kit.pack_files())
    assert "condemned" not in {pack.state for pack in await kit.catalog.packs()}
    assert (await kit.rebuilder.rebuild()).mended == [AGENT]
    await prune(kit)
    await prune(kit)
    await prune(kit)
    assert not set(before) <= set(kit.pack_files())
    assert (await kit.tree(4))[b"sub/stays"].mode == mode
    assert (await kit.verifier.verify()).damage == []


async def test_what_is_staged_ahead_of_its_chunks_is_no_damage(kit: Kit) -> None:
    volume = await kit.volume()
    _, entry = body_of(kit, b"early")
    staged = [msgspec.structs.replace(entry, path=b"staged", parts=bytes(16))]
    await kit.catalog.stage(volume.id, 5, Delta(entries=staged, gone=[b"own1"]))
    await prune(kit)
    assert (await kit.verifier.verify()).damage == []


async def test_what_waits_for_the_blob_store_is_no_damage(kit: Kit) -> None:
    (kit.home() / "fresh").write_bytes(noise(50_000, 99))
    (kit.home() / "own1").unlink()
    await kit.take()
    await prune(kit)
    done = await kit.verifier.verify()
    assert (done.damage, done.notes) == ([], [])
    rewrite(kit, b"early", mtime_ns=1)
    assert (await kit.rebuilder.rebuild()).mended == [AGENT]
    assert sorted(await kit.tree(5)) == [b"", b"fresh", b"long-wal", b"own2", b"own3", b"own4", b"sub", b"sub/stays"]
    assert (await kit.verifier.verify()).damage == []


async def test_forks_dropped_snapshots_and_manifests_written_anew_agree_with_packs(kit: Kit) -> None:
    (kit.home() / "own2").touch()  # inode and ctime alone: no difference between snapshots
    await kit.take(always=True)
    await kit.homes.fork(AGENT, 2, "eve")
    await kit.homes.laid()
    done = await kit.verifier.verify()
    assert done.damage == []
    for snapshot in await kit.catalog.undescribed("local"):
        await kit.consolidator.describe(await kit.volume("eve"), snapshot)
    await kit.uploader.flush()
    await kit.catalog.drop_snapshots((await kit.volume()).id, [2, 4])
    for _ in range(2):
        done = await kit.verifier.verify()
        assert (done.damage, done.notes, done.manifests) == ([], [], 2)
        await kit.consolidator.write(await kit.volume())
        await kit.uploader.flush()
    kit.tiers = parse_keep("1h all")
    for _ in range(3):
        await prune(kit)
        done = await kit.verifier.verify()
        assert (done.damage, done.notes, done.manifests) == ([], [], 2)


COLUMNS = [("entries", "path"), ("entries", "body"), ("segments", "ids"), ("chunks", "id"), ("chunks", "start")]
COLUMNS += [("entries", "until"), ("segments", "since")]


@pytest.mark.parametrize("seed", range(14))
async def test_any_flipped_bit_is_named_costs_nothing_and_is_put_right(kit: Kit, seed: int) -> None:
    wanted = await shapes(kit, "before")
    chance, (table, column) = Random(seed), COLUMNS[seed % len(COLUMNS)]
    sql = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL AND {column} <> x'' ORDER BY {column}"
    found = rows(kit, sql)
    [was] = chance.choice(found)
    now = was ^ 1 << chance.randrange(3) if isinstance(was, int) else _flip(was, column, chance)
    rows(kit, f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {column} = ?", now, was)
    harmful = column not in ("until", "since") or await differ(kit, wanted)
    damage = (await kit.verifier.verify()).damage
    assert bool(damage) == harmful
    kit.tiers = parse_keep("1h all")
    for _ in range(2):
        try:
            await prune(kit)
        except VolumeDamaged:
            assert harmful
    done = await kit.rebuilder.rebuild()
    assert done.problems == []
    left = {number: wanted[number] for number in await kit.numbers()}
    await unharmed(kit, left)


def _flip(was: bytes, column: str, chance: Random) -> bytes:
    while True:
        now = flipped(was, chance.randrange(len(was)), chance.randrange(8))
        if column != "body" or summed_body(now, -1) != summed_body(was, -1):
            return now


async def differ(kit: Kit, wanted: dict[int, Shape]) -> bool:
    """Whether some snapshot is not as it was."""
    for number, expected in wanted.items():
        try:
            laid = await kit.lay(number, kit.base / f"look{number}")
        except (VolumeDamaged, KeyError, AssertionError):
            return True
        if difference(shape(laid), expected):
            return True
    return False
