"""Databases of one transaction, copied to another place in the middle of its commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from relit.lib.superjournals import relocate

# Stops in the first of the renames and removals that follow the writing of both databases: the super-journal is there.
WRITER = """
import os, sys, apsw

class Vfs(apsw.VFS):
    def __init__(self):
        super().__init__("stopping", "")

    def xDelete(self, name, sync):
        if "-mj" in name:
            os._exit(7)
        return super().xDelete(name, sync)

vfs = Vfs()
db = apsw.Connection(sys.argv[1], vfs="stopping")
db.execute("ATTACH ? AS other", (sys.argv[2],))
for schema in ("main", "other"):
    db.execute(f"PRAGMA {schema}.journal_mode={sys.argv[3]}")
db.execute("BEGIN")
for schema in ("main", "other"):
    db.execute(f"UPDATE {schema}.t SET n = 2")
db.execute("COMMIT")
"""


@pytest.fixture(params=["DELETE", "PERSIST"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """With ``left.db`` and ``sub/right.db``, both in the middle of a commit that changes 1 to 2."""
    made = tmp_path / "ä home"
    (made / "sub").mkdir(parents=True)
    paths = [str(made / "left.db"), str(made / "sub" / "right.db")]
    for path in paths:
        db = apsw.Connection(path)
        db.execute("CREATE TABLE t (n); INSERT INTO t VALUES (1)")
        db.close()
    assert subprocess.run([sys.executable, "-c", WRITER, *paths, request.param]).returncode == 7
    assert [path.name.partition("-mj")[0] for path in made.glob("*-mj*")] == ["left.db"]
    return made


def values(home: Path) -> list[int]:
    """Right first, so that the order of recovery is not that of the commit."""
    found = []
    for name in ("sub/right.db", "left.db"):
        db = apsw.Connection(str(home / name))
        found.append(next(iter(db.execute("SELECT n FROM t")))[0])
        db.close()
    return found[::-1]


def journals(home: Path) -> list[bytes]:
    return [os.fsencode(path.relative_to(home)) for path in home.rglob("*-journal")]


def copied(home: Path) -> Path:
    return Path(shutil.copytree(home, home.with_name("a copy with a longer name")))


def test_where_they_were_both_are_rolled_back(home: Path) -> None:
    assert values(home) == [1, 1]


def test_elsewhere_the_transaction_would_be_taken_for_committed(home: Path) -> None:
    copy = copied(home)
    shutil.rmtree(home)
    assert values(copy) == [2, 2]


@pytest.mark.parametrize("old_stays", [True, False])
def test_elsewhere_both_are_rolled_back_too_once_they_are_relocated(home: Path, old_stays: bool) -> None:
    copy = copied(home)
    assert relocate(os.fsencode(copy), journals(copy), os.fsencode(copy)) == 2
    assert relocate(os.fsencode(copy), journals(copy), os.fsencode(copy)) == 0
    if not old_stays:
        shutil.rmtree(home)
    assert values(copy) == [1, 1]
    assert list(copy.glob("*-mj*")) == []
    if old_stays:
        assert values(home) == [1, 1]


def test_only_names_in_given_folders_are_changed(home: Path) -> None:
    copy = copied(home)
    there = os.fsencode(copy)
    assert relocate(there, journals(copy), there, [b"/some/where/else"]) == 0
    assert relocate(there, journals(copy), there, [os.fsencode(home)]) == 2


def test_a_committed_transaction_stays_committed(home: Path) -> None:
    for each in home.glob("*-mj*"):
        each.unlink()
    copy = copied(home)
    assert relocate(os.fsencode(copy), journals(copy), os.fsencode(copy)) == 0
    assert values(copy) == [2, 2]


def test_links_are_not_followed(home: Path) -> None:
    copy = copied(home)
    outside = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    for path in copy.glob("*-mj*"):
        path.unlink()
        path.symlink_to(home / path.name)
    (copy / "left.db-journal").unlink()
    (copy / "left.db-journal").symlink_to(home / "left.db-journal")
    assert relocate(os.fsencode(copy), journals(copy), os.fsencode(copy)) == 0
    assert {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()} == outside


@pytest.mark.parametrize("cut", [1, 7, 8, 12, 16, 20, 40])
def test_a_journal_whose_end_is_not_whole_stays_as_it_is(home: Path, cut: int) -> None:
    copy = copied(home)
    journal = copy / "left.db-journal"
    whole = journal.read_bytes()
    for damaged in (whole[:-cut], whole[:-cut] + bytes(cut), whole[-cut:], b""):
        journal.write_bytes(damaged)
        assert relocate(os.fsencode(copy), [b"left.db-journal", b"gone-journal"], os.fsencode(copy)) == 0
        assert journal.read_bytes() == damaged
