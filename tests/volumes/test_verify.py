"""Flipped bits, cut and deleted packs: what is damaged is told, and everything else comes back."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import apsw
import pytest
from kit import AGENT, KEYS, Kit, noise, running
from shapes import Shape, difference, shape

from relit.errors import BlobMissing, NotFound, VolumeDamaged
from relit.volumes.keys import Keys
from relit.volumes.limits import Limits
from relit.volumes.pack import HEADER


@pytest.fixture(params=[KEYS, None], ids=["sealed", "plain"])
async def kit(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kit]:
    """Three snapshots in as many packs; ``shared`` is in all of them, ``own1`` to ``own3`` are each in one."""
    keys: Keys | None = request.param
    async with running(Kit(tmp_path, keys=keys)) as made:
        home = made.home()
        home.mkdir(parents=True)
        (home / "shared").write_bytes(noise(120_000))
        for no in (1, 2, 3):
            for old in home.glob("own*"):
                old.unlink()
            (home / f"own{no}").write_bytes(noise(90_000, no))
            (home / f"own{no}-too").write_bytes(noise(30_000, no + 10))
            await made.take()
            await made.uploader.flush()
        yield made


async def pack_with(kit: Kit, path: bytes, number: int) -> tuple[Path, int, int]:
    """(the pack that holds a file's first chunk, where it begins, how long it is)."""
    entry = (await kit.tree(number))[path]
    id = entry.parts[:16]
    place = (await kit.catalog.places([id]))[id]
    return kit.pack_file(place.pack), place.offset, place.length


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


async def lays(kit: Kit, number: int, name: str) -> Shape:
    return shape(await kit.lay(number, kit.base / name))


async def test_sound_packs_are_sound(kit: Kit) -> None:
    done = await kit.verifier.verify()
    assert (done.damage, done.packs, done.restored) == ([], 3, [(AGENT, 3)])
    assert list((kit.base / "verify").iterdir()) == []
    with pytest.raises(NotFound):
        await kit.verifier.verify("nobody")


async def test_what_is_too_large_to_be_test_restored_is_told(tmp_path: Path) -> None:
    async with running(Kit(tmp_path, limits=Limits(bytes=1 << 60))) as kit:
        kit.home().mkdir(parents=True)
        with open(kit.home() / "sparse", "wb") as file:
            file.truncate(8 << 40)
        await kit.take()
        done = await kit.verifier.verify()
        assert (done.damage, done.restored) == ([], [])
        [note] = done.notes
        assert f"{AGENT} was not test-restored: 8.0T" in note


async def test_a_flipped_bit_names_pack_agent_snapshots_and_files(kit: Kit) -> None:
    pack, offset, length = await pack_with(kit, b"own2", 2)
    wanted = {number: await lays(kit, number, f"before{number}") for number in (1, 2, 3)}
    flip(pack, offset + length // 2, 3)
    [damage] = (await kit.verifier.verify()).damage
    assert (damage.pack, damage.volume, damage.snapshots, damage.paths) == (pack.name, AGENT, [2], [b"own2"])
    [told] = [each for each in (await kit.store.events(limit=500)) if each.name == "volume.damaged"]
    assert told.agent == AGENT
    with pytest.raises(VolumeDamaged, match=pack.name):
        await kit.lay(2, kit.base / "no")
    for number in (1, 3):
        assert difference(await lays(kit, number, f"after{number}"), wanted[number]) == {}
    before = shape(kit.home())
    with pytest.raises(VolumeDamaged):
        await kit.homes.restore(AGENT, 2)
    assert difference(shape(kit.home()), before) == {}
    assert kit.still.held == []
    await kit.homes.restore(AGENT, 2, [b"own2-too"])
    assert shape(kit.home())[b"own2-too"] == wanted[2][b"own2-too"]


async def test_what_several_snapshots_share_is_named_for_all_of_them(kit: Kit) -> None:
    pack, offset, length = await pack_with(kit, b"shared", 1)
    flip(pack, offset + length // 2)
    done = await kit.verifier.verify()
    [damage] = [each for each in done.damage if each.paths]
    assert (damage.snapshots, damage.paths) == ([1, 2, 3], [b"shared"])
    assert done.restored == []
    assert any("cannot be restored" in each.what for each in done.damage)


@pytest.mark.parametrize("seed", range(30))
async def test_any_flipped_bit_is_found_and_harms_only_what_it_hits(kit: Kit, seed: int) -> None:
    chance = Random(seed)
    wanted = {number: await lays(kit, number, f"before{number}") for number in (1, 2, 3)}
    pack = chance.choice(kit.pack_files())
    at = chance.randrange(HEADER.size) if seed % 3 == 0 else chance.randrange(pack.stat().st_size)
    flip(pack, at, chance.randrange(8))
    damage = (await kit.verifier.verify()).damage
    assert {each.pack for each in damage if each.pack} == {pack.name}
    hit = {number for each in damage if each.paths for number in each.snapshots}
    for number in (1, 2, 3):
        if number in hit:
            with pytest.raises(VolumeDamaged):
                await kit.lay(number, kit.base / f"after{number}")
        else:
            assert difference(await lays(kit, number, f"after{number}"), wanted[number]) == {}
    other, done = await kit.rebuilt(kit.base / "other")
    try:
        there = await other.numbers()
        assert there == [1, 2, 3][: len(there)], "what is told as a difference to a lost one is lost, too"
        assert bool(done.problems) >= (len(there) < 3)
        for number in set(there) - hit:
            assert difference(shape(await other.lay(number, kit.base / f"re{number}")), wanted[number]) == {}
    finally:
        await other.stop()


@pytest.mark.parametrize("harm", ["deleted", "cut", "emptied"])
async def test_a_pack_that_is_gone_or_cut_names_all_that_was_in_it(kit: Kit, harm: str) -> None:
    pack, offset, _ = await pack_with(kit, b"own2", 2)
    wanted = {number: await lays(kit, number, f"before{number}") for number in (1, 3)}
    if harm == "deleted":
        pack.unlink()
    else:
        pack.write_bytes(pack.read_bytes()[: offset if harm == "cut" else 0])
    damage = (await kit.verifier.verify()).damage
    named = [each for each in damage if each.paths]
    assert {each.pack for each in named} == {pack.name}
    assert {path for each in named for path in each.paths} >= {b"own2"}
    assert {number for each in named for number in each.snapshots} == {2}
    with pytest.raises((VolumeDamaged, BlobMissing)):
        await kit.lay(2, kit.base / "no")
    for number in (1, 3):
        assert difference(await lays(kit, number, f"after{number}"), wanted[number]) == {}


async def test_a_database_that_is_not_sound_is_told_whatever_it_is_called(volumes: Kit) -> None:
    home = volumes.home()
    folder = home / ("x" * 200) / ("y" * 200) / ("z" * 200)
    folder.mkdir(parents=True)
    connection = apsw.Connection(str(home / "made.db"))
    connection.execute("CREATE TABLE t(x); INSERT INTO t VALUES(randomblob(50000))")
    connection.close()
    for name in ("good.db", "b\udcff\n: odd.db"):
        shutil.copy(home / "made.db", folder / name)
    flip(folder / "b\udcff\n: odd.db", 20_000)
    data = (folder / "b\udcff\n: odd.db").read_bytes()
    (folder / "b\udcff\n: odd.db").write_bytes(data[:4096] + bytes(4096) + data[8192:])
    await volumes.take()
    done = await volumes.verifier.verify()
    assert done.databases == 3
    [damage] = done.damage
    assert damage.paths == ["/".join(("x" * 200, "y" * 200, "z" * 200, "")).encode() + b"b\xff\n: odd.db"]
    assert (damage.volume, damage.snapshots) == (AGENT, [1])
