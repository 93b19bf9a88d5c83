"""Processes that swap folders for symlinks while snapshots and restores run reach nothing outside the home."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit import AGENT, Kit, running
from shapes import shape

from relit.errors import RelitError, WrongStore
from relit.store.claim import claim_prefix
from relit.volumes.base import Objects

SECRET = b"a secret that is none of the home's"
_SWAPPER = """
import os, random, sys, time
home, outside = sys.argv[1:]
os.chdir(home)
print("swapping", flush=True)
while True:
    for name in ("a", "a/b"):
        try:
            os.rename(name, "kept")
            os.symlink(outside, name)
            os.unlink(name)
            os.rename("kept", name)
        except OSError:
            pass
        time.sleep(random.random() / 1000)
"""


@contextmanager
def swapping(home: Path, outside: Path) -> Iterator[None]:
    """Folders ``a`` and ``a/b`` are symlinks to ``outside`` now and then."""
    child = subprocess.Popen(
        [sys.executable, "-c", _SWAPPER, str(home), str(outside)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "swapping\n"
        yield
    finally:
        child.kill()
        child.communicate()


def trap(base: Path) -> Path:
    """A folder that holds what must not be read, by the names that the home's folder has."""
    outside = base / "outside"
    (outside / "b").mkdir(parents=True)
    for place in (outside, outside / "b"):
        for no in range(20):
            (place / f"file{no}").write_bytes(SECRET)
    return outside


async def test_nothing_outside_is_read_or_written(watched: Kit) -> None:
    home, outside = watched.home(), trap(watched.base)
    (home / "a" / "b").mkdir(parents=True)
    for no in range(20):
        (home / "a" / f"file{no}").write_text("one")
        (home / "a" / "b" / f"file{no}").write_text("one")
    await watched.take()
    before, done, refusals = shape(outside), 0, list[str]()
    with swapping(home, outside):
        for turn in range(9):
            try:
                if turn % 3 == 2:
                    await watched.homes.restore(AGENT, 1)
                else:
                    await watched.take(always=True)
                done += 1
            except RelitError as refused:
                refusals.append(str(refused))
    assert done > 0
    assert [each for each in refusals if "symlink" not in each and "as it was" not in each] == []
    assert shape(outside) == before
    assert not watched.still.held
    for number in await watched.numbers():
        laid = await watched.lay(number, watched.base / f"laid{number}")
        for path in laid.rglob("*"):
            assert path.is_symlink() or path.is_dir() or path.read_bytes() != SECRET, path


class Counting:
    """Objects that count what is written."""

    def __init__(self, inner: Objects) -> None:
        self._inner = inner
        self.url = inner.url
        self.writes = 0

    def __getattr__(self, name: str) -> object:
        if name in ("put", "put_file", "delete"):
            self.writes += 1
        return getattr(self._inner, name)


async def test_a_second_store_on_one_prefix_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    async with running(Kit(tmp_path / "one")) as kit:
        await claim_prefix(kit.objects, await kit.catalog.identity(), {})
        kit.home().mkdir(parents=True)
        await kit.take()
        await kit.uploader.flush()
        counting = Counting(kit.objects)
        async with running(Kit(tmp_path / "two", objects=counting)) as other:  # type: ignore[arg-type]
            with pytest.raises(WrongStore):
                await claim_prefix(counting, await other.catalog.identity(), {})  # type: ignore[arg-type]
        assert counting.writes == 0
        assert (await kit.verifier.verify()).damage == []
