"""Homes laid down whole: whatever ends that in the middle, no agent starts on half of it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from kit import AGENT, Kit, noise, running
from shapes import Shape, difference, shape

from relit.errors import RelitError
from relit.volumes import due
from relit.volumes.due import Due
from relit.volumes.syncing import hand_over, record_of, settle

FORK = "eve"


async def some_files(kit: Kit, agent: str = AGENT) -> Shape:
    """Snapshot 1, and what it holds."""
    home = kit.home(agent)
    home.mkdir(parents=True)
    for number in range(5):
        (home / f"note-{number}").write_bytes(noise(3_000, number))
    (home / "large").write_bytes(noise(200_000, 9))
    await kit.take(agent)
    return shape(home)


async def noted(kit: Kit, agent: str = AGENT, **other: object) -> Due:
    """A record beside the home, as a killed process leaves it."""
    volume = await kit.volume(agent)
    wanted = Due(volume=volume.id, number=1, newest=volume.newest, **other)  # type: ignore[arg-type]
    due.note(kit.home(agent), wanted)
    return wanted


def rejected(kit: Kit, agent: str = AGENT) -> list[set[str]]:
    """The names in each home that was put aside."""
    found = sorted((kit.base / "agents" / agent / "work" / "rejected").glob("*/home"))
    return [{path.name for path in each.iterdir()} for each in found]


async def test_a_home_that_was_to_be_laid_is_laid_by_the_next_start(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        wanted = await some_files(kit)
        await noted(kit)
        shutil.rmtree(kit.home())
        (kit.home().parent / ".home.laying").mkdir()
        (kit.home().parent / ".home.laying" / "half").write_text("")
    async with running(Kit(tmp_path)) as kit:
        assert difference(shape(kit.home()), wanted) == {}
        assert kit.still.held == []
    assert [path.name for path in kit.home().parent.glob(".*")] == [".home.laid"]


async def test_an_empty_folder_that_somebody_made_is_not_taken_for_it(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        wanted = await some_files(kit)
        await noted(kit)
        shutil.rmtree(kit.home())
        kit.home().mkdir()
        assert due.to_be_laid(kit.home())
    async with running(Kit(tmp_path)) as kit:
        assert difference(shape(kit.home()), wanted) == {}


async def test_other_files_in_its_place_are_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(Kit(tmp_path)) as kit:
        wanted = await some_files(kit)
        await noted(kit)
        shutil.rmtree(kit.home())
        kit.home().mkdir()
        (kit.home() / "foreign").write_text("precious")
    async with running(Kit(tmp_path)) as kit:
        assert difference(shape(kit.home()), wanted) == {}
        assert rejected(kit) == [{"foreign"}]
    assert [each.levelno for each in caplog.records] == [logging.WARNING]


async def test_when_the_machine_died_before_the_disk_had_it_the_newest_snapshot_is_laid(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        await some_files(kit)
        await noted(kit, ino=kit.home().stat().st_ino, boot="an earlier one")
        (kit.home() / "later").write_text("the agent's work")
        await kit.take()
        wanted = shape(kit.home())
        (kit.home() / "large").write_text("")  # as a power cut leaves it
    async with running(Kit(tmp_path)) as kit:
        assert difference(shape(kit.home()), wanted) == {}
        assert len(rejected(kit)) == 1
        assert not due.to_be_laid(kit.home())


async def test_what_the_same_boot_has_laid_is_only_brought_to_the_disk(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        await some_files(kit)
        await noted(kit, ino=kit.home().stat().st_ino)
        (kit.home() / "later").write_text("the agent's work")
        wanted = shape(kit.home())
    async with running(Kit(tmp_path)) as kit:
        pass
    assert difference(shape(kit.home()), wanted) == {}
    assert due.noted(kit.home()) is None
    assert rejected(kit) == []


async def test_the_agent_starts_while_the_disk_is_waited_for(tmp_path: Path) -> None:
    go = threading.Event()

    def slow(home: str) -> None:
        assert go.wait(20)
        settle(home)

    async with running(Kit(tmp_path, sync=slow)) as kit:
        wanted = await some_files(kit)
        await kit.homes.fork(AGENT, 1, FORK)
        await kit.homes.laid()
        assert kit.still.held == []
        assert difference(shape(kit.home(FORK)), wanted) == {}
        assert due.noted(kit.home(FORK)) is not None
        assert not due.to_be_laid(kit.home(FORK))
        go.set()
    assert due.noted(kit.home(FORK)) is None, "a stop waits for it"


async def test_a_disk_that_fails_leaves_the_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def failing(home: str) -> None:
        raise OSError(5, "Input/output error")

    async with running(Kit(tmp_path, sync=failing)) as kit:
        await some_files(kit)
        await kit.homes.fork(AGENT, 1, FORK)
        await kit.homes.laid()
    assert due.noted(kit.home(FORK)) is not None
    assert [each.levelno for each in caplog.records] == [logging.ERROR]


async def test_a_fork_that_never_was_leaves_nothing(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        await some_files(kit)
        due.note(kit.home(FORK), Due(volume="never made", number=1, newest=1))
    async with running(Kit(tmp_path)) as kit:
        assert due.noted(kit.home(FORK)) is None
        assert not kit.home(FORK).exists()
        assert kit.still.held == []
        await kit.homes.fork(AGENT, 1, FORK)
        await kit.homes.laid()


async def test_what_cannot_be_laid_stays_held_until_another_snapshot_is(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        await some_files(kit)
        await kit.uploader.flush()
        (kit.home() / "large").write_bytes(b"small")
        await kit.take()
        await kit.uploader.flush()
        await noted(kit)
        shutil.rmtree(kit.home())
        lost = (await kit.catalog.packs())[0].id
        kept = kit.pack_file(lost).read_bytes()
        kit.pack_file(lost).unlink()
    async with running(Kit(tmp_path)) as kit:
        assert "stays stopped" in kit.homes.trouble[AGENT]
        assert kit.still.held != []
        with pytest.raises(RelitError):
            await kit.homes.restore(AGENT, 1, [b"large"])
        assert kit.still.held != []
        assert not kit.home().exists()
        kit.pack_file(lost).write_bytes(kept)
        await kit.homes.restore(AGENT, 2)
        assert (kit.home() / "large").read_bytes() == b"small"
        assert kit.still.held == []
        assert await kit.numbers() == [1, 2, 3]


async def test_a_restore_of_a_lost_home_that_fails_changes_nothing(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        await some_files(kit)
        await kit.uploader.flush()
        shutil.rmtree(kit.home())
        kit.pack_file((await kit.catalog.packs())[0].id).unlink()
        with pytest.raises(RelitError):
            await kit.homes.restore(AGENT, 1)
        assert due.noted(kit.home()) is None
        assert kit.still.held == []


async def test_a_record_that_cannot_be_read_keeps_the_agent_stopped(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        wanted = await some_files(kit)
        shutil.rmtree(kit.home())
        Path(record_of(str(kit.home()))).write_text("{")
    async with running(Kit(tmp_path)) as kit:
        assert due.to_be_laid(kit.home())
        assert kit.homes.trouble.keys() == {AGENT}
        await kit.homes.restore(AGENT, 1)
        assert difference(shape(kit.home()), wanted) == {}


async def test_a_process_that_goes_on_after_a_command_removes_the_record(tmp_path: Path) -> None:
    home = tmp_path / "agents" / AGENT / "home"
    due.note(home, Due(volume="v", number=1, newest=1))
    hand_over(os.fspath(home))
    async with asyncio.timeout(20):
        while due.noted(home) is not None:
            await asyncio.sleep(0.01)


def test_settling_what_is_settled_is_nothing(tmp_path: Path) -> None:
    settle(os.fspath(tmp_path / "home"))


@given(ino=some.integers(0, 3), laid=some.integers(0, 3), boot=some.booleans())
def test_only_the_very_folder_that_was_laid_in_this_boot_counts(ino: int, laid: int, boot: bool) -> None:
    wanted = Due(volume="v", number=1, newest=1, ino=laid, boot="now" if boot else "then")
    whole = boot and ino == laid != 0
    assert due.verdict(wanted, "now", ino) == ("sync" if whole else "lay")
    assert due.verdict(None, "now", ino) == "nothing"


@given(number=some.integers(1, 9), newest=some.integers(1, 9), now=some.integers(1, 9))
def test_a_snapshot_that_came_since_is_of_the_home_that_was_laid(number: int, newest: int, now: int) -> None:
    found = due.wanted(Due(volume="v", number=number, newest=newest, boot=""), now)
    assert found == (now if now > newest else number)
