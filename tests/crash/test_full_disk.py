"""A disk that is really full: a small tmpfs of our own."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relit.errors import StoreFull, StoreUnavailable
from relit.lib.ids import new_id
from relit.store.blobs import ObstoreBlobs
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import NewRun
from relit.store.wakeups import Wakeups


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False)
    if done.returncode:
        missing = "needs the right to mount a tmpfs (root)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def message(size: int) -> NewRun:
    return NewRun(id=new_id(), agent="a", workflow="w", input=os.urandom(size))


@pytest.mark.crash
async def test_a_full_disk_is_a_clear_error_and_work_goes_on_when_space_returns(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "relit.db", wakeups=Wakeups())
    await store.start()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_200_000)
    kept: list[str] = []
    refused = 0
    for _ in range(40):
        runs = [message(30_000) for _ in range(4)]
        results = await asyncio.gather(*(store.enqueue([run]) for run in runs), return_exceptions=True)
        for run, result in zip(runs, results, strict=True):
            if isinstance(result, BaseException):
                assert isinstance(result, (StoreFull, StoreUnavailable)), result
                assert "df -h" in result.fix
                refused += 1
            else:
                kept.append(run.id)
    assert refused
    assert {run.id for run in await store.runs(limit=1000)} == set(kept)
    ballast.unlink()
    again = message(30_000)
    await store.enqueue([again])
    assert {run.id for run in await store.runs(limit=1000)} == {*kept, again.id}
    assert await store.check() == []
    await store.stop()


@pytest.mark.crash
async def test_a_blob_that_does_not_fit_is_not_half_written(small_disk: Path) -> None:
    blobs = ObstoreBlobs(str(small_disk / "blobs"))
    with pytest.raises(StoreFull):
        await blobs.put(os.urandom(4_000_000))
    assert [name async for name in blobs.list()] == []
    small = os.urandom(1000)
    assert await blobs.get(await blobs.put(small)) == small
