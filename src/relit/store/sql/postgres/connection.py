"""Connecting to PostgreSQL, and what its errors mean."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from relit.errors import ConfigError, RelitError, StoreError, StoreFull, StoreUnavailable

CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 60.0
CONNECT = "connect to"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,40}")

# The plan of an array statement does not depend on the arrays: plan it once. A plan that scans a table is never
# right for them, but looks cheap while the tables are small.
SETTINGS = {
    "application_name": "relit",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "timezone": "UTC",
    # A transaction whose client is gone gives its locks back soon, also when nobody closed the connection.
    "idle_in_transaction_session_timeout": "60000",
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

# Trouble with the connection or the server, not with what was asked of it.
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby now: the next connection finds the new primary
    asyncpg.TooManyConnectionsError,
)
_CONFIG = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
FULL = (asyncpg.DiskFullError, asyncpg.OutOfMemoryError)
FAILED = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError)  # what asyncpg raises
AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class Address:
    """A DSN and a schema; ``str`` hides the password."""

    def __init__(self, dsn: str, schema: str) -> None:
        if not _SCHEMA.fullmatch(schema):
            raise ConfigError(
                f"cannot use the schema name {schema!r}",
                why="it must be lower-case letters, digits and underscores",
                fix='leave it out: the name is then "relit"',
            )
        self.dsn = dsn
        self.schema = schema

    def __str__(self) -> str:
        parts = urlsplit(self.dsn)
        place = parts.netloc.rpartition("@")[2] or "the local socket"
        return f"the database {parts.path.lstrip('/') or 'of that user'} at {place}"

    async def connect(self) -> asyncpg.Connection:
        """A new connection. Raises ConfigError, or StoreUnavailable."""
        try:
            return await asyncpg.connect(self.dsn, **self.options())
        except FAILED as error:
            raise self.translate(error, CONNECT) from error

    def options(self) -> dict[str, Any]:
        """Arguments of ``asyncpg.connect`` besides the DSN."""
        return {
            "timeout": CONNECT_SECONDS,
            "command_timeout": COMMAND_SECONDS,
            "statement_cache_size": 512,
            "max_cached_statement_lifetime": 0,
            "max_cacheable_statement_size": 64 * 1024,
            "server_settings": SETTINGS | {"search_path": self.schema},
        }

    def translate(self, error: BaseException, verb: str = "write to") -> RelitError:
        """What an error means to a reader at 3 a.m."""
        what, why = f"cannot {verb} {self}", str(error) or type(error).__name__
        if isinstance(error, asyncpg.InvalidCatalogNameError):
            return ConfigError(what, why=why, fix=f"createdb {urlsplit(self.dsn).path.lstrip('/')}")
        if isinstance(error, _CONFIG):
            return ConfigError(what, why=why, fix="mend user and password in [server] database, or grant the rights")
        if isinstance(error, FULL):
            return StoreFull(what, why=f"{why}; nothing of it was written", fix="free space on the database server")
        if isinstance(error, ValueError) and verb == CONNECT:
            return ConfigError(what, why=why, fix="mend [server] database: postgresql://USER:PASSWORD@HOST/DATABASE")
        if isinstance(error, (*_LOST, asyncpg.InterfaceError)) and not isinstance(error, ValueError):
            return StoreUnavailable(what, why=why, fix="pg_isready; then look at the server's log")
        return StoreError(what, why=f"{type(error).__name__}: {why}", fix="relit doctor")


def is_lost(error: BaseException, connection: asyncpg.Connection) -> bool:
    """Whether ``error`` says that the connection is no use any more."""
    return isinstance(error, _LOST) or connection.is_closed()
