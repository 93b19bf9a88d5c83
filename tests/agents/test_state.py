"""Databases before a start, real ones: which fault is damage, and which is somebody's lock or the disk's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from relit.agents.state import Fault, look
from relit.control.care import Care, Settle

SETTLE = Settle(database="a.db", sql="UPDATE jobs SET state = 'over'")
HOLDS = """
import apsw, sys
held = apsw.Connection(sys.argv[1])
held.execute("BEGIN EXCLUSIVE; DELETE FROM jobs WHERE rowid = 1")
print("held", flush=True)
sys.stdin.read()
held.execute("COMMIT")
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    fill(made / "a.db")
    return made


def fill(file: Path) -> None:
    with contextlib.closing(apsw.Connection(str(file))) as database:
        database.execute("CREATE TABLE jobs (state TEXT, text TEXT); CREATE INDEX by_text ON jobs (text)")
        for number in range(200):
            database.execute("INSERT INTO jobs VALUES ('running', ?)", (f"{number:03}" * 20,))


def states(file: Path) -> set[str]:
    with contextlib.closing(apsw.Connection(str(file))) as database:
        return {state for (state,) in database.execute("SELECT state FROM jobs")}


def overwrite(file: Path, at: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)


def keep_journal(file: Path, mode: str) -> None:
    with contextlib.closing(apsw.Connection(str(file))) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")


async def looked(home: Path, *settle: Settle, locked_s: float = 20) -> Fault | None:
    care = Care(agent="ada", kind="", home=str(home), databases=["a.db"], settle=list(settle))
    return await look(care, locked_s=locked_s)


async def cause(home: Path, *settle: Settle) -> str | None:
    found = await looked(home, *settle)
    return None if found is None else found.cause


@contextlib.contextmanager
def locked(file: Path) -> Iterator[subprocess.Popen[str]]:
    """By another process, until nothing more can be told to it."""
    argv = [sys.executable, "-c", HOLDS, str(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.kill()


async def test_a_sound_database_is_settled(home: Path) -> None:
    assert await looked(home, SETTLE) is None
    assert states(home / "a.db") == {"over"}


@pytest.mark.parametrize("path", ["a.db", "below/a.db"])
async def test_a_database_that_is_not_there_yet_is_no_fault(tmp_path: Path, path: str) -> None:
    care = Care(agent="ada", kind="", home=str(tmp_path), databases=[path], settle=[Settle(database=path, sql="x")])
    assert await look(care) is None
    assert not (tmp_path / "a.db").exists()


async def test_tables_of_another_version_are_left_alone(home: Path) -> None:
    assert await looked(home, Settle(database="a.db", sql="DELETE FROM leases")) is None


async def test_an_overwritten_header_is_damage(home: Path) -> None:
    overwrite(home / "a.db", 0, bytes(64))
    assert await looked(home, SETTLE) == Fault("damaged", "a.db: it is no SQLite database any more")


@pytest.mark.parametrize("page", [1, 2, 3])
async def test_a_damaged_page_is_damage(home: Path, page: int) -> None:
    overwrite(home / "a.db", (page - 1) * 4096 + 100 * (page == 1), b"\x5a" * 2000)
    assert await cause(home, SETTLE) == "damaged"


async def test_a_database_that_lost_its_end_is_damage(home: Path) -> None:
    os.truncate(home / "a.db", 3 * 4096)
    assert await cause(home) == "damaged"


@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_a_lock_that_stays_is_somebodys_and_no_damage(home: Path, mode: str) -> None:
    keep_journal(home / "a.db", mode)
    with locked(home / "a.db") as holder:
        name = Path(f"/proc/{holder.pid}/comm").read_text().strip()
        assert await looked(home, SETTLE, locked_s=0.2) == Fault(
            "blocked", f"a.db: process {holder.pid} ({name}) has it locked (a command of relit agent exec?)"
        )
    assert await looked(home, SETTLE) is None
    assert states(home / "a.db") == {"over"}


@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_a_lock_that_ends_is_waited_for(home: Path, mode: str) -> None:
    keep_journal(home / "a.db", mode)
    with locked(home / "a.db") as holder:
        assert holder.stdin is not None
        asyncio.get_running_loop().call_later(1, holder.stdin.close)
        assert await looked(home, SETTLE) is None
    assert states(home / "a.db") == {"over"}


async def test_the_lock_counts_where_another_database_is_damaged(home: Path) -> None:
    """Whoever holds it would have the home taken from under it."""
    fill(home / "b.db")
    overwrite(home / "b.db", 0, bytes(64))
    keep_journal(home / "a.db", "delete")
    care = Care(agent="ada", kind="", home=str(home), databases=["b.db", "a.db"])
    with locked(home / "a.db"):
        found = await look(care, locked_s=0.2)
    assert found is not None
    assert (found.cause, found.what.count("\n")) == ("blocked", 1)


async def test_a_database_that_may_not_be_written_is_not_damaged(home: Path) -> None:
    """Its header says so: to root a file's mode says nothing."""
    overwrite(home / "a.db", 18, b"\x03")
    assert await looked(home) is None
    assert await looked(home, SETTLE) == Fault("unusable", "a.db: attempt to write a readonly database")


async def test_a_full_disk_is_not_damage(home: Path) -> None:
    grows = "PRAGMA max_page_count = 1; INSERT INTO jobs SELECT state, text || text FROM jobs"
    found = await looked(home, Settle(database="a.db", sql=grows))
    assert found == Fault("unusable", "a.db: database or disk is full")


async def test_a_journal_that_cannot_be_made_is_not_damage(home: Path) -> None:
    (home / "a.db-journal").mkdir()
    assert await cause(home, SETTLE) == "unusable"


@pytest.mark.parametrize("link", ["a.db", "data"])
async def test_a_symlink_is_not_followed_and_named(tmp_path: Path, home: Path, link: str) -> None:
    aside = tmp_path / "aside"
    home.rename(aside)
    home.mkdir()
    (home / link).symlink_to(aside / "a.db" if link == "a.db" else aside)
    path = "a.db" if link == "a.db" else "data/a.db"
    care = Care(agent="ada", kind="", home=str(home), databases=[path], settle=[Settle(database=path, sql=SETTLE.sql)])
    found = await look(care)
    assert found is not None
    assert found.cause == "unusable"
    assert found.what.startswith(f"{path}: {home / link} is a symlink")
    assert states(aside / "a.db") == {"running"}


async def test_functions_that_only_its_agent_has_are_no_damage(home: Path) -> None:
    with contextlib.closing(apsw.Connection(str(home / "a.db"))) as database:
        database.create_scalar_function("own", lambda value: value, 1, deterministic=True)
        database.execute("CREATE TABLE notes (text TEXT CHECK (own(text) != ''))")
    assert await looked(home) is None
