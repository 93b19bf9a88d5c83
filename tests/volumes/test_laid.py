"""A restore of a lost home is not read again for the snapshot that records it; what changed since is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kit import AGENT, Kit, noise


def fill(home: Path) -> None:
    (home / "a").write_bytes(noise(100_000))
    (home / "long").write_bytes(noise(3_000_000, 1))
    os.link(home / "a", home / "b")
    with open(home / "sparse", "wb") as file:
        file.truncate(1 << 20)
        file.seek(300_000)
        file.write(b"in the middle")


async def test_a_lost_home_is_not_read_again(watched: Kit, read: list[bytes]) -> None:
    fill(watched.home())
    first = await watched.take()
    read.clear()
    shutil.rmtree(watched.home())
    going = await watched.homes.restore(AGENT, first.number)
    assert going.after is not None
    assert read == []
    assert going.after.fresh == 0
    was, now = await watched.tree(first.number), await watched.tree(going.after.number)
    assert {path: (each.size, each.parts, each.holes) for path, each in was.items()} == {
        path: (each.size, each.parts, each.holes) for path, each in now.items()
    }
    laid = await watched.lay(going.after.number, watched.base / "laid")
    assert (laid / "long").read_bytes() == noise(3_000_000, 1)
    assert (laid / "b").stat().st_nlink == 2


async def test_what_was_written_after_it_was_laid_is_read(watched: Kit, read: list[bytes]) -> None:
    fill(watched.home())
    first = await watched.take()
    shutil.rmtree(watched.home())

    async def meanwhile() -> None:
        read.clear()
        (watched.home() / "a").write_bytes(b"new")

    going = await watched.homes.restore(AGENT, first.number, meanwhile=meanwhile)
    assert going.after is not None
    assert set(read) == {b"a"}
    laid = await watched.lay(going.after.number, watched.base / "laid")
    assert (laid / "a").read_bytes() == (laid / "b").read_bytes() == b"new"


async def test_what_was_laid_is_read_when_a_prune_took_its_packs_meanwhile(watched: Kit) -> None:
    home = watched.home()
    (home / "a").write_bytes(noise(100_000))
    first = await watched.take()
    await watched.uploader.flush()
    old = [pack.id for pack in await watched.catalog.packs()]
    (home / "a").write_bytes(noise(100_000, 1))
    await watched.take()
    shutil.rmtree(home)

    async def pruned() -> None:
        await watched.catalog.drop_snapshots(first.volume, [first.number])
        await watched.catalog.condemn(old, 0)

    going = await watched.homes.restore(AGENT, first.number, meanwhile=pruned)
    assert going.after is not None
    laid = await watched.lay(going.after.number, watched.base / "laid")
    assert (laid / "a").read_bytes() == noise(100_000)


async def test_files_that_go_back_in_place_are_not_read_again_and_are_as_they_were_chunk_by_chunk(
    watched: Kit, read: list[bytes]
) -> None:
    home = watched.home()
    (home / "log").write_bytes(noise(30_000))
    (home / "long").write_bytes(noise(3_000_000, 1))
    await watched.take()
    for _ in range(2):  # a file that grows is cut where it ended before
        with open(home / "log", "ab") as log:
            log.write(b"more\n")
        first = await watched.take()
    (home / "log").write_bytes(noise(30_001))
    (home / "long").write_bytes(noise(3_000_000, 2))
    await watched.take()

    async def meanwhile() -> None:
        read.clear()

    watched.clock.offset = 1000  # nothing counts as just touched
    going = await watched.homes.restore(AGENT, first.number, meanwhile=meanwhile)
    assert going.after is not None
    assert read == []
    was, now = await watched.tree(first.number), await watched.tree(going.after.number)
    assert {path: (each.size, each.parts) for path, each in was.items()} == {
        path: (each.size, each.parts) for path, each in now.items()
    }
    assert await watched.catalog.changes(first.volume, first.number, going.after.number) == []
    again = await watched.homes.preview(AGENT, first.number)
    assert again.written == []
