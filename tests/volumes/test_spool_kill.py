"""Whatever moment a process is killed at, what it had committed can be read, and no nonce was used twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from threading import Event

import pytest
from packs_for_tests import KEYS, content, counters, spool_in
from spool_victim import LIMIT, Book, made

from relit.manifest import Place
from relit.volumes.pack import COMMITTED, DROPPED, Sealer
from relit.volumes.packindex import PackFile, SealedPack

VICTIM = Path(__file__).with_name("spool_victim.py")


def kill_after(folder: Path, seed: int, seconds: float) -> str:
    """Run the victim, kill it, answer what it said."""
    process = subprocess.Popen([sys.executable, VICTIM, folder, str(seed)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.readline()
    if seed % 4:
        said += process.stdout.readline()  # else it is killed in the middle of recovery
    Event().wait(seconds)
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.read()
    assert process.wait() == -signal.SIGKILL, said
    process.stdout.close()
    return said


async def check(folder: Path) -> tuple[int, int]:
    """Everything in the book can be read; (chunks, packs) of it."""
    book = Book(folder / "book")
    spool = spool_in(folder / "spool", KEYS, limit=LIMIT)
    assert spool.recover(list(book.packs.values()), book.snapshots.keys()) == []
    for place, seed, size in book.chunks.values():
        assert read(spool, folder, place) == made(seed, size)
    where = {pack.id: path for pack, path in spool.sealed()}
    where |= {
        path.name: path for path in (folder / "stored").iterdir() if path.name in book.packs and "-" not in path.name
    }
    assert {id for id, pack in book.packs.items() if pack.state == "stored"} <= where.keys()
    listed = {}
    for id, path in where.items():
        data = path.read_bytes()
        seen = counters(data)
        assert len(set(seen)) == len(seen)
        found = SealedPack(id, PackFile(path), KEYS)
        index = await found.index()
        walked = await found.walk()
        assert (walked.index.chunks, walked.troubles) == (index.chunks, [])
        for each in index.manifests:
            assert each.role == (COMMITTED if each.snapshot in book.snapshots else DROPPED)
            listed[each.snapshot] = each.place(id)
    assert book.snapshots.items() <= listed.items()
    spool.close()
    return len(book.chunks), len(where)


def read(spool: object, folder: Path, place: Place) -> bytes:
    stored = folder / "stored" / place.pack
    if stored.exists():
        record = stored.read_bytes()[place.offset : place.offset + place.length]
        return Sealer(place.pack, KEYS).open(record, place)[1]
    return content(spool, place)  # type: ignore[arg-type]


async def killed_often(folder: Path, times: int) -> tuple[int, int]:
    (folder / "stored").mkdir()
    chance = Random(times)
    chunks, packs = 0, 0
    for seed in range(times):
        said = kill_after(folder, seed, chance.random() * 0.15)
        assert "recovered" not in said or "recovered 0" in said
        if seed % 5 == 4 or seed == times - 1:
            chunks, packs = await check(folder)
    return chunks, packs


async def test_what_was_committed_survives_kills(tmp_path: Path) -> None:
    chunks, packs = await killed_often(tmp_path, 12)
    assert chunks > 50
    assert packs > 10


@pytest.mark.crash
@pytest.mark.timeout(600)
async def test_what_was_committed_survives_a_storm_of_kills(tmp_path: Path) -> None:
    await killed_often(tmp_path, 150)
