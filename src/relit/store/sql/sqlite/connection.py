"""Opening a relit SQLite file: settings, whose file it is, migrations, and what its errors mean."""

from __future__ import annotations

import time
from pathlib import Path

import apsw

from relit.errors import ConfigError, SchemaTooNew, StoreCorrupt, StoreError, StoreFull, StoreUnavailable
from relit.store.sql import statements

PACKAGE = "relit.store.sql.sqlite"
APPLICATION_ID = 0x52454C49  # "RELI": tells relit's files from others
BUSY_SECONDS = 30.0
CACHE_KIB = 8192  # the kernel's cache holds the rest
SAFE_SQLITE = (3, 51, 3)  # older ones can lose the WAL's last reset (fixed in 3.51.3)

# Nothing of the batch can be trusted after these: the whole transaction is undone.
FATAL = (apsw.FullError, apsw.IOError, apsw.NoMemError, apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError)


def open_connection(path: Path, cache_kib: int = CACHE_KIB) -> apsw.Connection:
    """A connection with relit's settings. Raises ConfigError, StoreCorrupt, StoreError."""
    _refuse_old_sqlite()
    try:
        connection = apsw.Connection(str(path), statementcachesize=256)
        connection.set_busy_handler(_Patience())
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)  # else some statements are planned anew at each call
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
    except apsw.Error as error:
        raise translate(error, path) from error
    return connection


def _write_ahead(connection: apsw.Connection) -> None:
    """SQLite asks no busy handler where several want to change a fresh file at once: it gives up, lest they wait for
    each other."""
    patience, tries = _Patience(), 0
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except apsw.BusyError:
            if not patience(tries):
                raise
            tries += 1


def _refuse_old_sqlite() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < SAFE_SQLITE:
        raise ConfigError(
            f"cannot open the store with SQLite {apsw.sqlite_lib_version()}",
            why="versions before 3.51.3 can corrupt a WAL database",
            fix="pip install --upgrade apsw",
        )


class _Patience:
    """Waits for another process's transaction: short pauses first, since transactions are short; then gives up."""

    def __init__(self) -> None:
        self._since = 0.0

    def __call__(self, tries: int) -> bool:
        now = time.monotonic()
        if tries == 0:
            self._since = now
        if now - self._since > BUSY_SECONDS:
            return False
        time.sleep(min(0.0002 * (tries + 1), 0.005))
        return True


def migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the schema up to date, in one transaction. Raises SchemaTooNew, StoreCorrupt."""
    steps = statements.migrations(PACKAGE)
    newest = steps[-1][0]
    try:
        if _version(connection, path) == newest:
            return
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            have = _version(connection, path)
            for number, sql in steps:
                if number > have:
                    connection.execute(sql)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    except apsw.Error as error:
        raise translate(error, path) from error


def _version(connection: apsw.Connection, path: Path) -> int:
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    owner = connection.pragma("application_id")  # after them: another process may be making both, at once
    version = connection.pragma("user_version")
    if owner not in (0, APPLICATION_ID) or (owner == 0 and tables):
        raise StoreCorrupt(
            f"cannot use {path} as relit's store",
            why="it is a SQLite database of another program",
            fix="set RELIT_DATA to a folder of relit's own",
        )
    assert isinstance(version, int)
    newest = statements.migrations(PACKAGE)[-1][0]
    if version > newest:
        raise SchemaTooNew(
            f"cannot open {path}",
            why=f"its schema is version {version}; this relit knows up to {newest}, and downgrades are refused",
            fix="pip install --upgrade relit",
        )
    return version


def translate(error: apsw.Error, path: Path) -> StoreError | ConfigError:
    """What a SQLite error means to a reader at 3 a.m."""
    what = f"cannot write {path}"
    if isinstance(error, (apsw.FullError, apsw.NoMemError)):
        return StoreFull(what, why=f"{error}; nothing of it was written", fix=f"df -h {path.parent}")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return StoreCorrupt(f"cannot read {path}", why=str(error), fix="relit recover")
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        why = f"another process has held the database for {BUSY_SECONDS:.0f} s"
        return StoreUnavailable(what, why=why, fix=f"fuser {path}")
    if isinstance(error, (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError)):
        return ConfigError(f"cannot open {path}", why=str(error), fix=f"ls -ld {path.parent} {path}")
    if isinstance(error, apsw.IOError):
        return StoreUnavailable(
            what, why=f"{error}; nothing of it was written", fix=f"df -h {path.parent}; dmesg | tail"
        )
    return StoreError(what, why=f"{type(error).__name__}: {error}", fix="relit doctor")
