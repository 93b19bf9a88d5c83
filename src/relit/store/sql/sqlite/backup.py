"""A copy of an open SQLite store: one file, of one moment, while others write.

The copy goes through SQLite in the process that has the database open: opening the file by other means would drop its
POSIX locks. A read transaction holds the moment, so that a busy writer does not make the copy begin again and again;
in WAL mode readers never hold up writers.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import apsw

from relit.store.sql.sqlite.connection import open_connection, translate

_PAGES = 1024  # of a step: between steps other threads run


def backup(path_of_db: Path, target: Path) -> None:
    """Write the database as it is now to ``target`` (replaced), durably and with its WAL folded in. Blocking."""
    draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}.draft")
    try:
        with contextlib.closing(open_connection(path_of_db)) as source:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # a BEGIN alone fixes no moment
            with contextlib.closing(apsw.Connection(str(draft))) as copy:
                _copy(source, copy)
        _sync(draft, os.O_RDONLY)
        os.replace(draft, target)
        _sync(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    except apsw.Error as error:
        raise translate(error, target) from error
    finally:
        for left in (draft, draft.with_name(f"{draft.name}-journal"), draft.with_name(f"{draft.name}-wal")):
            left.unlink(missing_ok=True)


def _copy(source: apsw.Connection, copy: apsw.Connection) -> None:
    copy.execute("PRAGMA synchronous = OFF")  # a draft: it is synced once, when it is whole
    with copy.backup("main", source, "main") as work:
        while not work.done:
            work.step(_PAGES)
    copy.execute("PRAGMA journal_mode = DELETE")  # one file: opening it must not need a -wal beside it


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def newest(path: Path) -> tuple[int, int]:
    """(the newest event, the newest step): when they are as they were, nothing that matters was written."""
    with contextlib.closing(open_connection(path)) as source:
        ((event, step),) = source.execute("SELECT (SELECT max(id) FROM events), (SELECT max(rowid) FROM steps)")
    return event or 0, step or 0
