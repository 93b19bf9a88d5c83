"""What is done on the side, over simulated days: all have their turn, and what is found is known until it is mended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from kit import AGENT, Kit, noise, running
from simulated import Hours

from relit.store.objects import FolderObjects
from relit.testing.faults import FaultyObjects, Scripted
from relit.volumes.caretaker import Caretaker, Pace
from relit.volumes.findings import Damage, Findings
from relit.volumes.limits import Limits

LOOPS = 4
SETTLED_S = 330.0  # after the start, at the latest
SPAN_S = 2000.0  # three packs and a manifest: a turn every 500 seconds
STEP_S = 100.0


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    """Three snapshots in as many packs, over a blob store that can fail."""
    objects = FaultyObjects(FolderObjects(tmp_path / "blobs"), Scripted())
    async with running(Kit(tmp_path, objects=objects, keep="9d all")) as made:
        made.home().mkdir(parents=True)
        for no in (1, 2, 3):
            (made.home() / f"own{no}").write_bytes(noise(50_000, no))
            await made.take()
            await made.uploader.flush()
        yield made


@asynccontextmanager
async def caring(kit: Kit, verify_s: float = SPAN_S) -> AsyncIterator[Hours]:
    """A caretaker at work, as after a start of the process."""
    kit.care()
    hours = Hours(LOOPS if verify_s else 2)
    made = Caretaker(
        kit.catalog,
        kit.pruner,
        kit.verifier,
        kit.consolidator,
        kit.findings,
        tidy=kit.homes.tidy,
        report=kit.store.record,
        verify_s=verify_s,
        node=kit.node,
        clock=kit.clock,
        chance=Random(1),
        on_failure=_raise,
        sleep=hours.sleep,
    )
    await made.start()
    try:
        yield hours
    finally:
        await made.stop()


def _raise(error: BaseException) -> None:
    raise error


async def things(kit: Kit) -> list[str]:
    return [*sorted(f"pack:{pack.id}" for pack in await kit.catalog.packs()), f"volume:{AGENT}"]


async def turns(kit: Kit, hours: Hours, count: int) -> list[str]:
    """What the scrub looks at next."""
    found: list[str] = []
    while len(found) < count:
        before = kit.findings.at
        await hours.pass_by(STEP_S)
        found += [kit.findings.at] if kit.findings.at != before else []
    return found


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


async def pack_of(kit: Kit, path: bytes) -> tuple[Path, int]:
    """The file of the pack that holds a file's first chunk, and a byte of that chunk."""
    [place] = (await kit.catalog.places([(await kit.tree(3))[path].parts[:16]])).values()
    return kit.pack_file(place.pack), place.offset + place.length // 2


async def test_everything_has_its_turn_within_the_span_and_then_again(kit: Kit) -> None:
    async with caring(kit) as hours:
        expected = await things(kit)
        assert await turns(kit, hours, 4) == expected
        assert hours.now <= SETTLED_S + 1.1 * SPAN_S
        assert await turns(kit, hours, 2) == expected[:2]


async def test_after_a_restart_the_scrub_goes_on_where_it_was(kit: Kit) -> None:
    async with caring(kit) as hours:
        before = await turns(kit, hours, 2)
    async with caring(kit) as hours:
        assert before + await turns(kit, hours, 2) == await things(kit)


async def test_without_a_span_nothing_is_checked(kit: Kit) -> None:
    async with caring(kit, verify_s=0) as hours:
        await hours.pass_by(2 * SPAN_S)
        assert kit.findings.at == ""
        assert "volume.verified" not in {each.name for each in await kit.store.events(limit=500)}


async def test_damage_is_known_over_restarts_until_a_later_check_finds_it_mended(kit: Kit) -> None:
    pack, at = await pack_of(kit, b"own2")
    flip(pack, at)
    async with caring(kit) as hours:
        await hours.pass_by(SETTLED_S + 1.1 * SPAN_S)
        known = kit.findings.checks("pack:")
        [damage] = [each for each in Findings(kit.base / "checks.json").all() if each.pack]
        assert (damage.volume, damage.snapshots, damage.paths) == (AGENT, [2, 3], [b"own2"])
        assert "relit volume verify" in damage.fix
    flip(pack, at)
    async with caring(kit) as hours:
        assert kit.findings.checks("pack:") == known
        await hours.pass_by(SETTLED_S + 1.2 * SPAN_S)
        assert kit.findings.all() == []


async def test_a_flipped_manifest_is_found_in_its_turn(kit: Kit) -> None:
    volume = await kit.volume()
    tree = await kit.tree(3)
    await kit.catalog.replace_trees(volume.id, 3, [(1, None, each) for each in tree.values()], [])
    async with caring(kit) as hours:
        await turns(kit, hours, 4)
        assert {path for each in kit.findings.all() for path in each.paths} >= {b"own2", b"own3"}
        await kit.rebuilder.rebuild()
        await turns(kit, hours, 4)
        assert kit.findings.all() == []


@pytest.mark.slow
async def test_a_snapshot_that_could_not_be_restored_is_tried_again_every_day(kit: Kit) -> None:
    pack, at = await pack_of(kit, b"own1")
    flip(pack, at)
    async with caring(kit, verify_s=1000 * SPAN_S) as hours:
        await hours.pass_by(SETTLED_S)
        [check] = kit.findings.checks("restore:")
        flip(pack, at)
        await hours.pass_by(1.1 * 24 * 3600)
        assert check not in kit.findings.checks()


async def test_what_is_too_large_for_the_daily_test_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(Kit(tmp_path, limits=Limits(bytes=1 << 60))) as kit:
        kit.home().mkdir(parents=True)
        with open(kit.home() / "sparse", "wb") as file:
            file.truncate(8 << 40)
        await kit.take()
        await kit.uploader.flush()
        async with caring(kit, verify_s=1000 * SPAN_S) as hours:
            await hours.pass_by(SETTLED_S)
    assert f"{AGENT} was not test-restored: 8.0T" in caplog.text


async def test_what_is_gone_is_damaged_no_more(kit: Kit) -> None:
    kit.findings.found("pack:" + "0" * 32, [Damage(what="lost")])
    kit.findings.found("restore:nobody#3", [Damage(what="lost")])
    kit.findings.found(f"restore:{AGENT}#99", [Damage(what="lost")])
    await kit.verifier.verify()
    assert kit.findings.all() == []


async def test_a_prune_that_fails_is_told_until_one_succeeds(kit: Kit) -> None:
    assert isinstance(kit.objects, FaultyObjects)
    kit.objects.plan = Scripted(("list", "failing"))
    async with caring(kit) as hours:
        await hours.pass_by(SETTLED_S)
        [damage] = [kit.findings.all()[0] for _ in kit.findings.checks("upkeep:prune")]
        assert damage.what
        assert damage.fix
        await hours.pass_by(1.1 * 3600)
        assert kit.findings.all() == []


async def test_what_could_not_be_read_keeps_its_turn(kit: Kit) -> None:
    assert isinstance(kit.objects, FaultyObjects)
    async with caring(kit) as hours:
        await turns(kit, hours, 1)
        kit.objects.plan = plan = Scripted(("get_ranges", "error"))
        while not plan.done:
            await hours.pass_by(STEP_S)
        assert await turns(kit, hours, 3) == (await things(kit))[1:]


async def test_a_check_rests_four_times_as_long_as_it_worked() -> None:
    slept: list[float] = []
    times = iter([10.0, 10.5, 20.0, 21.0, 30.0])

    class Stepping:
        def now_ms(self) -> int:
            return 0

        def boot_ms(self) -> int:
            return 0

        def monotonic(self) -> float:
            return next(times)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    pace = Pace(Stepping(), sleep)
    await pace.rest()
    await pace.rest()
    assert slept == [2.0, 4.0]


def test_findings_that_cannot_be_read_begin_anew(tmp_path: Path) -> None:
    place = tmp_path / "checks.json"
    kept = Findings(place)
    kept.reached("pack:1")
    kept.found("pack:1", [Damage(what="x", paths=[b"\xff"])])
    assert (Findings(place).at, Findings(place).all()) == ("pack:1", [Damage(what="x", paths=[b"\xff"])])
    assert place.stat().st_mode & 0o077 == 0
    place.write_bytes(b"{")
    assert (Findings(place).at, Findings(place).all()) == ("", [])
