"""An agent that never rests: ``restless_agent.py HOME WRITER...``. Every writer is a process, all are of one parent.

Each keeps a promise that holds at any one instant, across files and across processes, and that a copy taken over some
time breaks. ``broken`` tells which promises the files of a home break. Nothing here relies on power not being cut:
only on all files being of the same instant.
"""

from __future__ import annotations

import itertools
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

FEW, ROWS = 4, 64  # of 2 KB each; a transaction writes some anew, every LARGE-th all of them
LARGE = 8
PAD = 3_000_000  # bytes of a ledger's database that never change, so that a copy of it takes a while
SMALL_PAD = 500_000  # of a joined one's
FULL = 16  # every so many rounds a ledger is written as if a power cut were feared
COUNTS = 1 << 20  # bytes of a file of numbers
BEGUN = 5  # rounds
_VACUUM = 150
_BUSY_MS = 20_000
_HOT = bytes.fromhex("d9d505f920a163d7")  # how a rollback journal begins that is in use
_JOURNALS = {"ann": "DELETE", "ben": "PERSIST", "cat": "TRUNCATE", "dan": "DELETE"}
_PEERS = {"ann": "ben", "ben": "ann", "eve": "fay", "fay": "eve"}


def body(number: int) -> bytes:
    """What a row of round ``number`` holds."""
    return number.to_bytes(8, "big") * 250


# --- ledgers: a plain file, then a database with a write-ahead log, then one with a rollback journal ------------------


def opened(path: Path, journal: str) -> apsw.Connection:
    """As agents open their databases; checkpoints come often."""
    db = apsw.Connection(str(path))
    db.set_busy_timeout(_BUSY_MS)
    db.execute(f"PRAGMA journal_mode={journal}")
    db.execute("PRAGMA wal_autocheckpoint=100")
    return db


def make_tables(db: apsw.Connection, pad: int, schema: str = "main") -> None:
    """Empty ones, when they are not there."""
    db.execute(f"CREATE TABLE IF NOT EXISTS {schema}.rounds (who TEXT PRIMARY KEY, n INTEGER, peer INTEGER)")
    db.execute(f"CREATE TABLE IF NOT EXISTS {schema}.rows (who TEXT, id INTEGER, body BLOB, PRIMARY KEY (who, id))")
    db.execute(f"CREATE TABLE IF NOT EXISTS {schema}.pad AS SELECT randomblob({pad}) AS body")


def write_round(db: apsw.Connection, who: str, number: int, peer: int, schema: str = "main") -> None:
    """A few or all of a writer's rows, within the caller's transaction."""
    many = FEW if number % LARGE else ROWS
    db.executemany(
        f"INSERT OR REPLACE INTO {schema}.rows VALUES (?, ?, ?)", ((who, id, body(number)) for id in range(many))
    )
    db.execute(f"INSERT OR REPLACE INTO {schema}.rounds VALUES (?, ?, ?)", (who, number, peer))


def keep_ledger(home: Path, who: str) -> None:
    """Round n goes into the file, then into one.db, then into two.db. One.db also says how far the peer's file was."""
    dbs = [opened(home / "one.db", "WAL"), opened(home / "two.db", _JOURNALS[who])]
    for number in rounds(home, who):
        with open(home / f"{who}.log", "ab", buffering=0) as log:
            log.write(b"%015d\n" % number)
        peer = logged(home / f"{_PEERS[who]}.log")
        for db in dbs:
            db.execute(f"PRAGMA synchronous={'OFF' if number % FULL else 'FULL'}")
            db.execute("BEGIN IMMEDIATE")
            write_round(db, who, number, peer)
            db.execute("COMMIT")
            if number % _VACUUM == 0:
                db.execute("VACUUM")


def logged(path: Path) -> int:
    """The last line's number. Lines have one length, so that reading it takes one instant."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            return int(os.pread(file.fileno(), 16, end - 16)) if end else 0
    except FileNotFoundError:
        return 0


def broken_ledgers(home: Path) -> Iterator[str]:
    """Of both writers."""
    found = {name: contents(home / name) for name in ("one.db", "two.db")}
    for name, (trouble, _) in found.items():
        yield from (f"{name}: {each}" for each in trouble)
    for who in ("ann", "ben"):
        log, peer_log = logged(home / f"{who}.log"), logged(home / f"{_PEERS[who]}.log")
        (one, peer), (two, _) = (found[name][1].get(who, (0, 0)) for name in ("one.db", "two.db"))
        if not log >= one >= two >= log - 1:
            yield f"{who}: the log has {log}, one.db {one}, two.db {two}"
        if not (peer <= peer_log and log * 16 == (home / f"{who}.log").stat().st_size):
            yield f"{who}: one.db knows {peer} of its peer, whose log has {peer_log}; {log} lines of its own"


def contents(path: Path) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """(what is not sound, each writer's newest round), by SQLite once it has recovered the database."""
    db = apsw.Connection(str(path))
    try:
        trouble = [str(row[0]) for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        known = {who: (n, peer) for who, n, peer in db.execute("SELECT who, n, peer FROM rounds")}
        rows = {(who, id): each for who, id, each in db.execute("SELECT who, id, body FROM rows")}
    except apsw.Error as error:
        return [f"{type(error).__name__}: {error}"], {}
    finally:
        db.close()
    if rows != {(who, id): each for who, (n, _) in known.items() for id, each in expected(n)}:
        trouble.append("a transaction is there by half")
    return trouble, known


def expected(number: int) -> Iterator[tuple[int, bytes]]:
    """One writer's rows after round ``number``."""
    all_written = number - number % LARGE
    for id in range(ROWS if all_written else FEW):
        yield id, body(number if id < FEW else all_written)


# --- joined: one transaction over two databases, by SQLite's super-journal --------------------------------------------


def keep_joined(home: Path, who: str) -> None:
    """Both databases always have the same round. Only where files are synced does SQLite use a super-journal."""
    db = opened(home / f"{who}-left.db", _JOURNALS[who])
    db.execute("ATTACH ? AS other", (str(home / f"{who}-right.db"),))
    db.execute(f"PRAGMA other.journal_mode={_JOURNALS[who]}")
    for schema in ("main", "other"):
        db.execute(f"PRAGMA {schema}.synchronous=NORMAL")
    make_tables(db, SMALL_PAD, "other")
    make_tables(db, SMALL_PAD)
    for number in rounds(home, who):
        db.execute("BEGIN IMMEDIATE")
        write_round(db, who, number, 0)
        write_round(db, who, number, 0, "other")
        db.execute("COMMIT")


def broken_joined(home: Path) -> Iterator[str]:
    """Of cat's and dan's, as far as they are there."""
    for left in sorted(home.glob("*-left.db")):
        right = left.with_name(left.name.replace("-left", "-right"))
        found = [contents(each) for each in (left, right)]
        for path, (trouble, _) in zip((left, right), found, strict=True):
            yield from (f"{path.name}: {each}" for each in trouble)
        if found[0][1] != found[1][1]:
            yield f"{left.name} has {found[0][1]}, {right.name} {found[1][1]}"


# --- maps: numbers in files that are only ever stored to through a mapping --------------------------------------------


def keep_map(home: Path, who: str) -> None:
    """Into the first file, then into the second: each says the round, and the second how far the peer's first was."""
    first, second = (mapped(home / f"{who}-{name}.map") for name in ("1", "2"))
    peer = mapped(home / f"{_PEERS[who]}-1.map")
    for number in rounds(home, who):
        first[0] = number
        second[1] = peer[0]
        second[0] = number


def mapped(path: Path) -> memoryview:
    """A file's numbers, eight bytes each; one is stored by one instruction. All three files are made up front."""
    with open(path, "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), COUNTS)).cast("Q")


def broken_maps(home: Path) -> Iterator[str]:
    """Of both writers."""
    now = {path.name: memoryview(path.read_bytes()).cast("Q") for path in home.glob("*.map")}
    for who in ("eve", "fay") if now else ():
        first, second, peer = now[f"{who}-1.map"], now[f"{who}-2.map"], now[f"{_PEERS[who]}-1.map"]
        if not first[0] >= second[0] >= first[0] - 1:
            yield f"{who}: the first file has {first[0]}, the second {second[0]}"
        if second[1] > peer[0]:
            yield f"{who}: knows {second[1]} of its peer, which has {peer[0]}"


# --- all of them ------------------------------------------------------------------------------------------------------

WRITERS: dict[str, Callable[[Path, str], None]] = {
    "ann": keep_ledger,
    "ben": keep_ledger,
    "cat": keep_joined,
    "dan": keep_joined,
    "eve": keep_map,
    "fay": keep_map,
}


def rounds(home: Path, who: str) -> Iterator[int]:
    """1, 2, 3 ... while the parent lives. Beside the home it is told that the writer is well at work."""
    parent = os.getppid()
    for number in itertools.count(1):
        if number == BEGUN:
            home.with_name(f"{who}.begun").touch()
        if os.getppid() != parent:
            return
        yield number


def broken(home: Path) -> list[str]:
    """Which promises these files break. Databases are recovered in place."""
    ledgers = broken_ledgers(home) if (home / "one.db").exists() else ()
    return [*ledgers, *broken_joined(home), *broken_maps(home)]


def halfway(home: Path) -> bool:
    """Whether some database here is in the middle of a transaction, so that SQLite has to roll it back."""
    return any(path.read_bytes()[:8] == _HOT for path in home.glob("*-journal"))


def make(home: Path, writers: list[str]) -> None:
    """The files that all writers expect."""
    if {"ann", "ben"} & {*writers}:
        for name, journal in (("one.db", "WAL"), ("two.db", "DELETE")):
            db = opened(home / name, journal)
            make_tables(db, PAD)
            db.close()
    for who in {"eve", "fay"} & {*writers}:
        for name in ("1", "2"):
            (home / f"{who}-{name}.map").write_bytes(bytes(COUNTS))


def main() -> None:
    home, writers = Path(sys.argv[1]), sys.argv[2:]
    make(home, writers)
    for who in writers:
        if os.fork() == 0:
            WRITERS[who](home, who)
            return
    os.wait()
    raise SystemExit("a writer ended")


if __name__ == "__main__":
    main()
