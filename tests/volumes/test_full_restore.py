"""A whole home laid anew beside the one that is there, and exchanged with it."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest
from kit import AGENT, Kit, noise, running
from shapes import Shape, difference, shape

from relit.errors import RelitError
from relit.volumes import due
from relit.volumes.due import Due


async def two_versions(kit: Kit) -> tuple[Shape, Shape]:
    """Snapshots 1 and 2, and what they hold."""
    home = kit.home()
    home.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        (home / f"note-{number}").write_bytes(noise(2_000, number))
    connection = apsw.Connection(str(home / "a.db"))
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    await kit.take()
    one = shape(home)
    (home / "note-1").write_text("changed")
    (home / "new").write_text("since then")
    await kit.take()
    return one, shape(home)


def put_aside(kit: Kit) -> Path:
    [found] = (kit.base / "agents" / AGENT / "work" / "rejected").glob("*/home")
    return found


async def test_what_was_there_is_put_aside_with_what_snapshots_leave_out(watched: Kit) -> None:
    one, two = await two_versions(watched)
    os.mkfifo(watched.home() / "pipe")
    was = watched.home().stat().st_ino
    told = await watched.homes.preview(AGENT, 1, full=True)
    going = await watched.homes.restore(AGENT, 1, full=True)
    assert difference(shape(watched.home()), one) == {}
    assert watched.home().stat().st_ino != was
    assert told.removed == going.removed == [b"new"]
    assert going.done is not None
    assert Path(going.done.rejected) / "home" == put_aside(watched)
    assert (put_aside(watched) / "pipe").is_fifo()
    assert difference(shape(put_aside(watched)), two).keys() <= {b"pipe", b""}
    assert watched.still.held == []


async def test_the_new_folder_is_watched(watched: Kit) -> None:
    await two_versions(watched)
    going = await watched.homes.restore(AGENT, 1, full=True)
    assert going.after is not None
    assert (await watched.take()).number == going.after.number, "the restore itself is no further change"
    (put_aside(watched) / "note-0").write_text("not the home any more")
    assert (await watched.take()).number == going.after.number
    (watched.home() / "note-0").write_text("seen")
    await watched.take()
    laid = await watched.lay(going.after.number + 1, watched.base / "laid")
    assert (laid / "note-0").read_text() == "seen"


async def test_it_can_be_taken_back(watched: Kit) -> None:
    _, two = await two_versions(watched)
    going = await watched.homes.restore(AGENT, 1, full=True)
    await watched.homes.restore(AGENT, going.before.number, full=True)
    assert difference(shape(watched.home()), two) == {}


async def test_one_that_fails_leaves_the_home_as_it_is(volumes: Kit) -> None:
    _, two = await two_versions(volumes)
    await volumes.uploader.flush()
    for path in volumes.pack_files():
        path.unlink()
    with pytest.raises(RelitError):
        await volumes.homes.restore(AGENT, 1, full=True)
    assert difference(shape(volumes.home()), two) == {}
    assert [path.name for path in volumes.home().parent.glob(".*")] == []
    assert volumes.still.held == []


@pytest.mark.parametrize("full", [False, True])
async def test_the_disk_has_a_home_that_was_just_laid_before_it_is_changed(tmp_path: Path, full: bool) -> None:
    async with running(Kit(tmp_path)) as kit:
        one, _ = await two_versions(kit)
        due.note(
            kit.home(),
            Due(volume=(await kit.volume()).id, number=2, newest=2, ino=kit.home().stat().st_ino),
        )
        await kit.homes.restore(AGENT, 1, full=full)
        assert due.noted(kit.home()) is None
        assert kit.still.held == []
    async with running(Kit(tmp_path)) as kit:
        assert difference(shape(kit.home()), one) == {}
