"""A process that writes into a spool until it is killed: ``python spool_victim.py FOLDER SEED``.

Its catalog is a file: a line for each commit and each pack that was stored. What stands there was answered for.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from random import Random

import msgspec
from packs_for_tests import KEYS, VOLUME, chunks, delta, snapshot, spool_in

from relit.manifest import Pack, Place
from relit.volumes.spool import Spool

LIMIT = 150_000
_STATES = ["open", "sealed", "stored"]


class Book:
    """The catalog. Packs go forward only: open, sealed, stored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packs: dict[str, Pack] = {}
        self.snapshots: dict[str, Place] = {}
        self.chunks: dict[str, tuple[Place, int, int]] = {}
        self._lock = threading.Lock()
        if path.exists():
            text = path.read_text()
            for line in text[: text.rfind("\n") + 1].splitlines():
                self._apply(json.loads(line))
            path.write_text(text[: text.rfind("\n") + 1])

    def add(self, line: dict[str, object]) -> None:
        with self._lock:
            line = json.loads(json.dumps(line, default=msgspec.to_builtins))
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self._apply(line)

    def _apply(self, line: dict[str, object]) -> None:
        found = msgspec.convert(line, Line)
        for pack in found.packs:
            known = self.packs.get(pack.id, pack)
            if (_STATES.index(pack.state), pack.size) >= (_STATES.index(known.state), known.size):
                self.packs[pack.id] = pack
        if found.snapshot:
            self.snapshots[found.snapshot] = found.at
        self.chunks |= {f"{seed}-{size}": (place, seed, size) for place, seed, size in found.chunks}


class Line(msgspec.Struct):
    packs: list[Pack]
    snapshot: str = ""
    at: Place = Place("", 0, 0, 0)
    chunks: list[tuple[Place, int, int]] = []


def made(seed: int, size: int) -> bytes:
    return Random(seed).randbytes(size)


def write(spool: Spool, book: Book, chance: Random) -> None:
    while True:
        wanted = [(chance.randrange(2**31), chance.randrange(20_000)) for _ in range(chance.randrange(1, 12))]
        places = spool.put(chunks(*(made(*each) for each in wanted)))
        taken = snapshot(chance.randrange(1, 10**6))
        at = spool.put_delta(VOLUME, taken, delta(*(b"%d-%d" % each for each in wanted)))
        keep = chance.random() < 0.8
        if keep:
            packs = spool.sync()
            rows = [(place, *each) for place, each in zip(places, wanted, strict=True)]
            book.add({"packs": packs, "snapshot": taken.id, "at": at, "chunks": rows})
        spool.settle(at, keep)


def seal(spool: Spool, book: Book, stored: Path, chance: Random) -> None:
    while True:
        spool.seal(force=chance.random() < 0.5)
        for pack, path in spool.sealed():
            book.add({"packs": [pack]})
            if chance.random() < 0.5:
                (stored / f"{pack.id}-draft").write_bytes(path.read_bytes())
                (stored / f"{pack.id}-draft").rename(stored / pack.id)
                book.add({"packs": [msgspec.structs.replace(pack, state="stored")]})
                spool.release(pack)


def main(folder: Path, seed: int) -> None:
    chance = Random(seed)
    book = Book(folder / "book")
    spool = spool_in(folder / "spool", KEYS, limit=LIMIT)
    print("recovering", flush=True)
    troubles = spool.recover(list(book.packs.values()), book.snapshots.keys())
    print(f"recovered {len(troubles)}", flush=True)
    for at in range(2):
        threading.Thread(target=write, args=(spool, book, Random(seed * 10 + at))).start()
    seal(spool, book, folder / "stored", chance)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
