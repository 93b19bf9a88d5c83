"""The rows of the table: which engine, on which database, asked for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One engine as it is measured."""

    key: str
    title: str
    script: str
    scenarios: str
    database: str = "sqlite"
    flags: tuple[str, ...] = ()

    @property
    def venv(self) -> str | None:
        """The peer's folder under ``.bench``; relit itself runs in the interpreter that runs the benchmark."""
        return None if self.script == "relit" else f"{self.script}-venv"


ALL = "aggregate,sequential,latency"
BULK = "aggregate,sequential"
FASTEST = "0.001"  # the shortest poll that DBOS's configuration names as a minimum

ROWS = [
    Row("relit_sqlite", "relit, SQLite", "relit", f"{ALL},cpu", flags=("--samples", "100")),
    Row("dbos_sqlite", "DBOS, SQLite as it comes", "dbos", BULK),
    Row("dbos_sqlite_wal", "DBOS, SQLite with WAL forced on", "dbos", BULK, flags=("--wal",)),
    Row(
        "dbos_fastest", "DBOS, queue polled each millisecond", "dbos", "latency",
        flags=("--samples", "40", "--polling", FASTEST),
    ),
    Row("relit_postgres", "relit, PostgreSQL", "relit", ALL, "postgres", ("--samples", "60")),
    Row("dbos_postgres", "DBOS, PostgreSQL", "dbos", BULK, "postgres"),
    Row("dbos_default", "DBOS, queue polled as it comes (1 s)", "dbos", "latency", flags=("--samples", "8")),
    Row("absurd", "Absurd, PostgreSQL", "absurd", ALL, "postgres"),
    Row("restate", "Restate, service on hypercorn", "restate", ALL, flags=("--samples", "100")),
    Row("restate_granian", "Restate, service on granian", "restate", BULK, flags=("--server", "granian")),
    Row("temporal", "Temporal dev server, activities", "temporal", ALL, flags=("--sequential", "60")),
    Row("temporal_local", "Temporal dev server, local activities", "temporal", ALL, flags=("--local",)),
]  # fmt: skip

LIMITS = "limits"  # not a row: relit's own limits
QUICK = [  # the short run, most wanted first; a key that comes again belongs to the second round
    "relit_sqlite",
    "dbos_sqlite",
    LIMITS,
    "relit_postgres",
    "dbos_postgres",
    "dbos_sqlite_wal",
    "dbos_fastest",
    "relit_sqlite",
    "dbos_sqlite",
]
