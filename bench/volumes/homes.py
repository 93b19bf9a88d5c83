"""The home that is backed up: many small files, some logs, three live SQLite databases; and the edits made to it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import apsw

WORDS = b"agent plan tool call result note memory error retry file path token price order mail draft done ".split()
DATABASES = ("memory.db", "history.db", "index.db")
LOGS = ("agent.log", "tools.log", "model.log")
_ROW = 400  # bytes of a row's text


@dataclass(frozen=True)
class Size:
    """How large a home is."""

    files: int
    megabytes: int
    databases_mb: tuple[int, int, int]


FULL = Size(20_000, 1000, (20, 50, 100))
QUICK = Size(4_000, 200, (20, 20, 30))
SMALL = Size(2_000, 8, (0, 0, 0))
HUGE = Size(200_000, 5000, (20, 50, 100))


def text(chance: random.Random, length: int) -> bytes:
    """Half words, half noise: compresses about as much as an agent's files do."""
    words = b" ".join(chance.choice(WORDS) for _ in range(length // 12))
    return (words + chance.randbytes(max(0, length - len(words))))[:length]


def make(home: Path, size: Size, seed: int = 1) -> None:
    """Fill an empty folder."""
    chance = random.Random(seed)
    home.mkdir(parents=True, exist_ok=True)
    rest = size.megabytes * 1_000_000 - sum(size.databases_mb) * 1_000_000 - 15_000_000 * bool(size.databases_mb[0])
    mean = rest // size.files
    pool = text(chance, 8_000_000)
    for number in range(size.files):
        path = file_at(home, number)
        if number % 100 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        length = min(len(pool) // 2, max(200, round(chance.expovariate(1 / mean))))
        start = chance.randrange(len(pool) - length)
        path.write_bytes(b"%d\n" % number + pool[start : start + length])
    if size.databases_mb[0]:
        (home / "logs").mkdir()
        for name in LOGS:
            start = chance.randrange(len(pool) - 5_000_000)
            (home / "logs" / name).write_bytes(pool[start : start + 5_000_000])
        for name, megabytes in zip(DATABASES, size.databases_mb, strict=True):
            make_database(home / name, megabytes, chance, pool)


def file_at(home: Path, number: int) -> Path:
    """Where file ``number`` is: a hundred to a folder, twenty folders to a folder."""
    return home / f"work-{number // 2000:03}" / f"{number // 100:05}" / f"note-{number:06}.md"


def make_database(path: Path, megabytes: int, chance: random.Random, pool: bytes) -> None:
    """Rows of text, in WAL mode, as large as asked."""
    db = connect(path)
    db.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, at INTEGER, body BLOB)")
    rows = megabytes * 1_000_000 // (_ROW + 20)
    starts = (chance.randrange(len(pool) - _ROW) for _ in range(rows))
    with db:
        db.executemany("INSERT INTO items (at, body) VALUES (1, ?)", ((pool[at : at + _ROW],) for at in starts))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def connect(path: Path) -> apsw.Connection:
    """As agents open their databases."""
    db = apsw.Connection(str(path))
    db.set_busy_timeout(10_000)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    return db


def small(home: Path, files: int, chance: random.Random) -> None:
    """Write ten small files anew."""
    for number in chance.sample(range(files), 10):
        file_at(home, number).write_bytes(text(chance, chance.randint(500, 4000)))


class Editor:
    """Changes a home as an agent at work does. Holds the databases open."""

    def __init__(self, home: Path, files: int, seed: int = 7) -> None:
        self.home = home
        self.files = files
        self.chance = random.Random(seed)
        self.databases = [connect(home / name) for name in DATABASES if (home / name).exists()]

    def small(self) -> None:
        """Write ten small files anew."""
        small(self.home, self.files, self.chance)

    def mixed(self) -> None:
        """Ten files, three logs, a hundred rows of the databases."""
        self.small()
        for name in LOGS:
            with open(self.home / "logs" / name, "ab") as log:
                log.write(text(self.chance, 4000))
        for number in range(100):
            db = self.databases[number % len(self.databases)]
            count = next(db.execute("SELECT max(id) FROM items"))[0]
            row = self.chance.randint(1, count)
            db.execute("UPDATE items SET body = ? WHERE id = ?", (text(self.chance, _ROW), row))

    def close(self) -> None:
        """Let go of the databases."""
        for db in self.databases:
            db.close()
