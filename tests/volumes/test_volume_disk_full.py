"""A full disk is a clear error wherever it is met; the agent and its files are unharmed, and with space all goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from kit import AGENT, Kit, noise, running
from shapes import Shape, difference, shape

from relit.app.stillness import InstanceHolder, Instances
from relit.errors import RelitError, StoreFull


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A filesystem of that size."""
    place.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true"
        pytest.skip("needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all space but ``leave`` bytes."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))
    return ballast


@asynccontextmanager
async def on_small(tmp_path: Path, where: str, size: str, **more: str) -> AsyncIterator[tuple[Kit, Path]]:
    """A kit of which one folder is on a small disk."""
    with small_disk(tmp_path / where, size) as disk:
        async with running(Kit(tmp_path, **more)) as kit:  # type: ignore[arg-type]
            kit.home().mkdir(parents=True, exist_ok=True)
            kit.still.running = True
            yield kit, disk


def unharmed(kit: Kit, before: Shape) -> None:
    """The files are as they were, and nobody is held or frozen."""
    assert kit.still.held == []
    assert not kit.still.frozen
    assert difference(shape(kit.home()), before) == {}


async def test_a_full_spool_during_a_snapshot(tmp_path: Path) -> None:
    async with on_small(tmp_path, "spool-local", "2m") as (kit, disk):
        home = kit.home()
        (home / "note").write_text("1")
        await kit.take()
        ballast = fill(disk, 300_000)
        (home / "big").write_bytes(noise(1_000_000))
        before = shape(home)
        for _ in range(2):
            with pytest.raises(StoreFull):
                await kit.take()
            unharmed(kit, before)
        assert await kit.numbers() == [1]
        assert kit.homes.trouble.keys() == {AGENT}
        ballast.unlink()
        taken = await kit.take()
        assert kit.homes.trouble == {}
        assert difference(shape(await kit.lay(taken.number, tmp_path / "laid")), before) == {}
        await kit.uploader.flush()
        assert (await kit.verifier.verify()).damage == []


async def test_a_spool_that_fills_while_the_agent_stands_still(tmp_path: Path) -> None:
    async with on_small(tmp_path, "spool-local", "2m") as (kit, disk):
        home = kit.home()
        (home / "note").write_text("1")
        await kit.take()
        capture = kit.homes._captures[AGENT]
        capture._buffer = 100_000
        ballast = fill(disk, 150_000)
        (home / "early").write_text("2")
        kit.still.before = lambda: (home / "late").write_bytes(noise(900_000))
        with pytest.raises(StoreFull):
            await kit.take()
        kit.still.before = lambda: None
        unharmed(kit, shape(home))
        ballast.unlink()
        taken = await kit.take()
        assert difference(shape(await kit.lay(taken.number, tmp_path / "laid")), shape(home)) == {}


async def test_a_full_disk_during_a_restore_leaves_the_home_as_it_was(tmp_path: Path) -> None:
    async with on_small(tmp_path, f"agents/{AGENT}", "3m") as (kit, disk):
        home = kit.home()
        (home / "big").write_bytes(noise(1_000_000))
        (home / "note").write_text("1")
        await kit.take()
        wanted = shape(home)
        (home / "big").write_bytes(noise(1_000_000, 1))
        ballast = fill(disk, 400_000)
        before = shape(home)
        with pytest.raises(StoreFull, match="as it was"):
            await kit.homes.restore(AGENT, 1)
        unharmed(kit, before)
        assert ballast.stat().st_size > 0
        ballast.unlink()
        await kit.homes.restore(AGENT, 1)
        assert difference(shape(home), wanted) == {}


async def test_a_restore_that_cannot_be_recorded_says_that_the_files_are_back(tmp_path: Path) -> None:
    async with on_small(tmp_path, "spool-local", "2m") as (kit, disk):
        for no in range(500):
            (kit.home() / noise(40, no).hex()).touch()  # a record that is larger than what is left of a page
        (kit.home() / "note").write_text("1")
        await kit.take()
        for path in kit.home().iterdir():
            path.write_text("2")

        async def filled() -> None:
            fill(disk)

        with pytest.raises(StoreFull, match="is back at snapshot 1, but that is not recorded"):
            await kit.homes.restore(AGENT, 1, meanwhile=filled)
        assert (kit.home() / "note").read_text() == "1"
        assert kit.still.held == []


async def test_a_full_disk_below_the_catalog(tmp_path: Path) -> None:
    async with on_small(tmp_path, "small", "4m", database="small/relit.db") as (kit, disk):
        home = kit.home()
        (home / "note").write_text("1")
        await kit.take()
        ballast = fill(disk)
        for no in range(3000):
            (home / f"file{no}").write_text(str(no))
        before = shape(home)
        with pytest.raises(RelitError) as full:
            await kit.take()
        assert isinstance(full.value, StoreFull)
        unharmed(kit, before)
        ballast.unlink()
        taken = await kit.take()
        assert difference(shape(await kit.lay(taken.number, tmp_path / "laid")), before) == {}
        await kit.uploader.flush()
        assert (await kit.verifier.verify()).damage == []


async def test_a_fork_without_room_stays_held_and_is_laid_later(tmp_path: Path) -> None:
    async with on_small(tmp_path, "agents/eve", "1m") as (kit, disk):
        (kit.home() / "big").write_bytes(noise(700_000))
        await kit.take()
        ballast = fill(disk, 100_000)
        await kit.homes.fork(AGENT, 1, "eve")
        await kit.homes.laid()
        assert kit.still.held, "without its files it must not start"
        assert "not in order" in kit.homes.trouble["eve"]
        ballast.unlink()
        await kit.homes.recover()
        assert kit.still.held == []
        assert difference(shape(kit.home("eve")), shape(kit.home())) == {}


async def test_an_agent_that_cannot_be_held_for_want_of_room_is_told_and_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "agents", "1m") as disk:
        hold = disk / "web" / "run" / "hold"
        hold.parent.mkdir(parents=True)
        fill(disk)
        holder = InstanceHolder(tmp_path / "nowhere", "web", lambda: Instances(["web"], [hold]))
        with pytest.raises(StoreFull, match="web was not stopped") as full:
            await holder.hold("restore of snapshot 3")
        assert "df -h" in full.value.fix
        assert list(hold.parent.iterdir()) == []
