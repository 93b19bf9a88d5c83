"""The store in one SQLite file."""

from __future__ import annotations

from pathlib import Path

from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.store.sql.sqlite.connection import CACHE_KIB
from relit.store.sql.sqlite.database import SqliteDatabase
from relit.store.sql.store import Announcer, SqlStore
from relit.store.wakeups import LocalSocketWakeups


class SqliteStore(SqlStore):
    """``path``: the database file; its folder must exist. Several processes of one machine may share it.

    ``wakeups`` defaults to sockets in a folder beside the file, so that processes wake each other. ``cache_kib``: of
    pages, for writing.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock = SYSTEM_CLOCK,
        wakeups: Announcer | None = None,
        cache_kib: int | None = None,
    ) -> None:
        wakeups = wakeups or LocalSocketWakeups(path.parent / f"{path.name}-wake")
        super().__init__(SqliteDatabase(path, clock, wakeups.announce, cache_kib or CACHE_KIB), wakeups)
