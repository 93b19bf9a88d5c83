"""What becomes of a home is told as it is: what stays, what could not be put back, what is gone, what is put away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from kit import AGENT, Kit, running
from shapes import shape

from relit.errors import Conflict, NotFound, VolumeError


def rejected(kit: Kit) -> list[Path]:
    """What restores have kept of what they replaced."""
    return sorted((kit.home().parent / "work" / "rejected").glob("*"))


# --- restores -------------------------------------------------------------------------------------------------------


async def test_a_folder_that_stays_is_not_told_as_removed(volumes: Kit) -> None:
    home = volumes.home()
    (home / "a").write_text("one")
    await volumes.take()
    (home / "withfifo" / "deep").mkdir(parents=True)
    os.mkfifo(home / "withfifo" / "deep" / "fifo")
    (home / "withfifo" / "file").write_text("since")
    told = await volumes.homes.preview(AGENT, 1)
    going = await volumes.homes.restore(AGENT, 1)
    for each in (told, going):
        assert each.removed == [b"withfifo/file"]
        assert {one.path for one in each.skipped} == {b"withfifo", b"withfifo/deep"}
        assert all("stays" in one.why for one in each.skipped)
    assert not (home / "withfifo" / "file").exists()
    assert len(rejected(volumes)) == 1


async def test_a_restore_that_replaces_nothing_keeps_no_folder_of_what_it_replaced(volumes: Kit) -> None:
    (volumes.home() / "a").write_text("one")
    await volumes.take()
    (volumes.home() / "a").chmod(0o600)
    os.mkfifo(volumes.home() / "fifo")
    (volumes.home() / "folder").mkdir()
    (volumes.home() / "folder" / "fifo").symlink_to("x")
    (volumes.home() / "folder" / "fifo").unlink()
    os.mkfifo(volumes.home() / "folder" / "fifo")
    for _ in range(2):
        going = await volumes.homes.restore(AGENT, 1)
        assert going.done is not None
        assert going.done.rejected == ""
        assert rejected(volumes) == []


async def test_folders_that_come_back_or_change_are_told(volumes: Kit) -> None:
    (volumes.home() / "empty" / "deep").mkdir(parents=True)
    (volumes.home() / "open").mkdir(mode=0o700)
    await volumes.take()
    shutil.rmtree(volumes.home() / "empty")
    (volumes.home() / "open").chmod(0o750)
    told = await volumes.homes.preview(AGENT, 1)
    going = await volumes.homes.restore(AGENT, 1)
    for each in (told, going):
        assert [one.path for one in each.written] == [b"empty", b"empty/deep"]
        assert [one.path for one in each.adjusted] == [b"open"]
    again = await volumes.homes.preview(AGENT, 1)
    assert (again.written, again.adjusted) == ([], [])


@pytest.mark.parametrize("edit", ["", "changed"])
async def test_names_that_part_as_they_were_then_are_no_trouble(volumes: Kit, edit: str) -> None:
    one, two = volumes.home() / "one", volumes.home() / "two"
    one.write_text("same")
    two.write_text("same")
    await volumes.take()
    two.unlink()
    two.hardlink_to(one)
    if edit:
        one.write_text(edit)
    going = await volumes.homes.restore(AGENT, 1)
    assert going.skipped == []
    assert one.stat().st_ino != two.stat().st_ino
    assert (one.read_text(), two.read_text()) == ("same", "same")


async def test_a_name_that_parts_from_one_that_was_not_restored_is_told(volumes: Kit) -> None:
    one, two = volumes.home() / "one", volumes.home() / "two"
    one.write_text("then")
    two.hardlink_to(one)
    await volumes.take()
    one.write_text("now")
    going = await volumes.homes.restore(AGENT, 1, [b"two"])
    assert [each.path for each in going.skipped] == [b"two"]
    assert (one.read_text(), two.read_text()) == ("now", "then")


async def test_what_is_put_back_in_an_empty_place_replaces_nothing(volumes: Kit) -> None:
    (volumes.home() / "a").write_text("one")
    await volumes.take()
    (volumes.home() / "a").unlink()
    going = await volumes.homes.restore(AGENT, 1)
    assert [each.path for each in going.written] == [b"a"]
    assert (volumes.home() / "a").read_text() == "one"
    assert rejected(volumes) == []


async def test_exactly_means_that_what_came_since_goes_from_these_folders_only(volumes: Kit) -> None:
    home = volumes.home()
    for folder in ("one", "two"):
        (home / folder).mkdir()
        (home / folder / "old").write_text("old")
    await volumes.take()
    for folder in ("one", "two"):
        (home / folder / "new").write_text("new")
    told = await volumes.homes.preview(AGENT, 1, [b"one"])
    assert told.removed == []
    told = await volumes.homes.preview(AGENT, 1, [b"one"], exact=True)
    going = await volumes.homes.restore(AGENT, 1, [b"one"], exact=True)
    assert told.removed == going.removed == [b"one/new"]
    assert sorted(shape(home)) == [b"", b"one", b"one/old", b"two", b"two/new", b"two/old"]


# --- symlinks -------------------------------------------------------------------------------------------------------


async def test_a_home_that_is_a_symlink_is_neither_read_nor_written(volumes: Kit) -> None:
    home, outside = volumes.home(), volumes.base / "outside"
    (home / "a").write_text("one")
    await volumes.take()
    outside.mkdir()
    (outside / "mine").write_text("none of the agent's")
    shutil.rmtree(home)
    home.symlink_to(outside)
    before = shape(outside)
    for asked in (
        volumes.take(),
        volumes.homes.preview(AGENT, 1),
        volumes.homes.restore(AGENT, 1),
        volumes.homes.restore(AGENT, 1, [b"a"]),
    ):
        with pytest.raises(VolumeError, match="is a symlink"):
            await asked
    assert shape(outside) == before
    assert volumes.still.held == []
    assert await volumes.numbers() == [1]
    assert "symlink" in volumes.homes.state(await volumes.volume())
    home.unlink()
    await volumes.homes.restore(AGENT, 1)
    assert (home / "a").read_text() == "one"


async def test_no_fork_is_laid_through_a_symlink(volumes: Kit) -> None:
    (volumes.home() / "a").write_text("one")
    await volumes.take()
    (volumes.base / "outside").mkdir()
    volumes.home("eve").parent.mkdir()
    volumes.home("eve").symlink_to(volumes.base / "outside")
    with pytest.raises(VolumeError, match="is a symlink"):
        await volumes.homes.fork(AGENT, 1, "eve")
    assert list((volumes.base / "outside").iterdir()) == []


# --- homes that are gone --------------------------------------------------------------------------------------------


async def test_a_home_that_is_gone_is_told_with_its_way_back(volumes: Kit) -> None:
    (volumes.home() / "a").write_text("one")
    await volumes.take()
    assert volumes.homes.state(await volumes.volume()) == ""
    shutil.rmtree(volumes.home())
    with pytest.raises(NotFound, match="is gone") as gone:
        await volumes.take()
    assert f"relit volume restore {AGENT} --at now" in gone.value.fix
    assert "is gone" in volumes.homes.state(await volumes.volume())
    with pytest.raises(NotFound, match="no home of 'nobody'") as nobody:
        await volumes.take("nobody")
    assert "ctx.home" in nobody.value.why


async def test_a_home_that_is_gone_with_its_folder_is_laid_anew(volumes: Kit) -> None:
    volumes.home("eve").mkdir(parents=True)
    (volumes.home("eve") / "a").write_text("one")
    await volumes.take("eve")
    shutil.rmtree(volumes.home("eve").parent)
    volumes.homes._mounts.pop("eve")  # as after a restart
    assert [each.path for each in (await volumes.homes.preview("eve", 1)).written] == [b"a"]
    await volumes.homes.restore("eve", 1)
    assert (volumes.home("eve") / "a").read_text() == "one"


# --- volumes that are thrown away -----------------------------------------------------------------------------------


async def test_a_forgotten_home_that_stays_is_told(volumes: Kit) -> None:
    (volumes.home() / "a").write_text("one")
    await volumes.take()
    assert await volumes.homes.forget(AGENT) == (volumes.home(), False)
    assert volumes.home().is_dir()
    with pytest.raises(NotFound):
        await volumes.homes.forget(AGENT)


async def test_a_home_that_is_put_away_gets_no_new_volume_and_is_not_lost(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        kit.home().mkdir(parents=True)
        (kit.home() / "a").write_text("one")
        await kit.take()
        away, done = await kit.homes.forget(AGENT, home=True)
        assert done
        assert away is not None
        assert (away / "a").read_text() == "one"
        assert away.parent == kit.home().parent
        assert kit.still.held == []
        with pytest.raises(NotFound):
            await kit.take()
        assert await kit.catalog.volumes() == []
    async with running(Kit(tmp_path)) as kit:
        assert (away / "a").read_text() == "one"


async def test_a_home_that_relit_toml_wants_is_not_put_away(volumes: Kit) -> None:
    (volumes.home() / "a").write_text("one")
    await volumes.take()
    volumes.declared = True
    volumes.homes._mounts = volumes.mounts()
    with pytest.raises(Conflict, match="not put away") as refused:
        await volumes.homes.forget(AGENT, home=True)
    assert "relit down" in refused.value.fix
    assert (volumes.home() / "a").exists()
    assert await volumes.numbers() == [1]


async def test_a_pinned_volume_keeps_its_home(volumes: Kit) -> None:
    (volumes.home() / "a").write_text("one")
    taken = await volumes.take()
    await volumes.catalog.pin(taken.volume, 1, True)
    with pytest.raises(Conflict, match="cannot remove"):
        await volumes.homes.forget(AGENT, home=True)
    assert (volumes.home() / "a").exists()
    assert volumes.still.held == []
