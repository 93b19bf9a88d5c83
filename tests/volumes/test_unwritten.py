"""A database that was only opened and closed is not read again; whatever was written to it is in the next snapshot."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from kit import Kit, running
from mapper import mapped

from relit.volumes.reading import Reader
from relit.volumes.unwritten import stamps

Reads = list[bytes]


def opened_and_closed(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR))


@pytest.fixture(params=["fanotify", "inotify"])
async def kit(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kit]:
    """With a database of 2 MB that was read long after it was written."""
    async with running(Kit(tmp_path, watch=request.param)) as made:
        made.home().mkdir(parents=True)
        with closing(sqlite3.connect(made.home() / "db")) as db:
            db.execute("CREATE TABLE t (x BLOB)")
            db.execute("INSERT INTO t VALUES (zeroblob(2000000))")
            db.commit()
        await made.take()
        made.clock.offset = 200
        opened_and_closed(made.home() / "db")
        await made.take()
        yield made


@pytest.fixture
def reads(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The files that are read."""
    told: Reads = []
    real: Callable[..., object] = Reader._content

    def content(self: Reader, home: object, path: bytes, *rest: object) -> object:
        told.append(path)
        return real(self, home, path, *rest)

    monkeypatch.setattr(Reader, "_content", content)
    return told


async def stored(kit: Kit, number: int) -> bytes:
    """The database as that snapshot has it."""
    target = kit.base / f"laid-{number}"
    await kit.homes.lay_at(await kit.volume(), number, target)
    return (target / "db").read_bytes()


async def test_a_database_that_was_opened_and_closed_is_not_read_again(kit: Kit, reads: Reads) -> None:
    folder = os.open(kit.home(), os.O_RDONLY)
    try:
        honest = stamps(folder)
    finally:
        os.close(folder)
    newest = (await kit.volume()).newest
    opened_and_closed(kit.home() / "db")
    assert (await kit.take()).number == newest
    assert reads == ([] if honest else [b"db"])


async def test_one_that_was_written_is_read(kit: Kit, reads: Reads) -> None:
    with open(kit.home() / "db", "r+b") as file:
        file.seek(1_000_000)
        file.write(b"x")
    taken = await kit.take()
    assert reads == [b"db"]
    assert await stored(kit, taken.number) == (kit.home() / "db").read_bytes()


@pytest.mark.parametrize("before", [True, False], ids=["mapped before", "mapped since"])
async def test_a_store_through_a_mapping_that_is_gone_is_in_the_next_snapshot(kit: Kit, before: bool) -> None:
    db = kit.home() / "db"
    if before:
        with mapped(db) as other:
            other.store()
            await kit.take()
            other.store()  # the page is writable already: this one changes no times
    else:
        with mapped(db) as other:
            other.store()
    taken = await kit.take()
    assert await stored(kit, taken.number) == db.read_bytes()


async def test_a_mapping_by_another_name_counts_too(kit: Kit, tmp_path: Path) -> None:
    db = kit.home() / "db"
    os.link(db, tmp_path / "elsewhere")
    with mapped(tmp_path / "elsewhere") as other:
        other.store()
        kit.clock.offset += 200
        opened_and_closed(db)
        await kit.take()
        other.store()  # the page is writable already: this one changes no times
    opened_and_closed(db)
    taken = await kit.take()
    assert await stored(kit, taken.number) == db.read_bytes()


async def test_a_store_before_a_snapshot_and_one_after_it_are_both_seen(kit: Kit) -> None:
    db = kit.home() / "db"
    with mapped(db) as other:
        other.store()
        await kit.take()
        await kit.take()
        other.store()
    opened_and_closed(db)
    first = await kit.take()
    opened_and_closed(db)
    second = await kit.take()
    assert await stored(kit, second.number) == db.read_bytes()
    assert first.number == second.number
