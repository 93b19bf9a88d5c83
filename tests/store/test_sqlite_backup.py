"""A backup of a SQLite store is one moment of it, whoever writes meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from relit.errors import ConfigError
from relit.store.sql.sqlite.backup import backup
from relit.store.sql.sqlite.connection import open_connection


@contextlib.contextmanager
def writing(path: Path) -> Iterator[list[int]]:
    """A thread that keeps two tables equal; what it answers grows with each of its transactions."""
    done: list[int] = []
    enough, begun = threading.Event(), threading.Event()

    def write() -> None:
        with contextlib.closing(open_connection(path)) as connection:
            while not enough.is_set():
                with connection:
                    connection.execute("UPDATE a SET n = n + 1")
                    connection.execute("UPDATE b SET n = n + 1")
                done.append(1)
                begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait()
    try:
        yield done
    finally:
        enough.set()
        thread.join()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "relit.db"
    with contextlib.closing(open_connection(path)) as connection:
        connection.execute("CREATE TABLE a (n); CREATE TABLE b (n); CREATE TABLE filler (data)")
        connection.execute("INSERT INTO a VALUES (0); INSERT INTO b VALUES (0)")
        connection.execute(
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 3000)"
            "INSERT INTO filler SELECT randomblob(8000) FROM c"
        )
    return path


def test_a_backup_under_writers_is_consistent_and_holds_nobody_up(database: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    with contextlib.closing(open_connection(database)), writing(database) as done:
        for _ in range(3):
            before = len(done)
            backup(database, target)
            assert len(done) > before
            check(target, before)
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]


def check(target: Path, least: int) -> None:
    uri = f"file:{target}?immutable=1"  # the file alone, without any -wal
    with contextlib.closing(apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)) as copy:
        assert copy.pragma("integrity_check") == "ok"
        (a,), (b,) = [
            [int(str(value)) for value in row] for row in copy.execute("SELECT n FROM a UNION ALL SELECT n FROM b")
        ]
        assert a == b >= least


def test_a_backup_that_cannot_be_written_says_so(database: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot open"):
        backup(database, tmp_path / "nowhere" / "copy.db")
