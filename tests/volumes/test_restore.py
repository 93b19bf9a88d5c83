"""Homes are put back exactly, in place or whole, and unharmed when that fails."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees_for_restore import DictChunks, shape, take

from relit.errors import VolumeDamaged, VolumeError
from relit.manifest import Entry
from relit.volumes.restore import Restorer

NAMES = ("a", "b", "c.db", "c.db-wal", "d\udcff")


def edit(home: Path, chance: random.Random, steps: int) -> None:
    """A few random changes of any kind."""
    for _ in range(steps):
        folders = [home, *(path for path in home.rglob("*") if path.is_dir() and not path.is_symlink())]
        path = chance.choice(folders) / chance.choice(NAMES)
        kind = chance.choice(("file", "file", "folder", "link", "remove", "hard", "mode", "big", "rename"))
        if kind in ("mode", "rename") or path.exists() or path.is_symlink():
            if kind == "mode" and path.exists() and not path.is_symlink():
                path.chmod(chance.choice((0o700, 0o755, 0o500)) if path.is_dir() else chance.choice((0o600, 0o444)))
                continue
            if kind == "rename" and (path.exists() or path.is_symlink()):
                other = home / f"moved{chance.randrange(3)}"
                if not (other.exists() or other.is_symlink()):
                    path.rename(other)
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists() or path.is_symlink():
                path.unlink()
        make(home, path, kind, chance)


def make(home: Path, path: Path, kind: str, chance: random.Random) -> None:
    files = [other for other in home.rglob("*") if other.is_file() and not other.is_symlink()]
    if kind == "file":
        path.write_bytes(chance.randbytes(chance.choice((0, 10, 60_000))))
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(chance.choice(("/etc", "a", "nowhere")))
    elif kind == "hard" and files:
        os.link(chance.choice(files), path)
    elif kind == "big":
        path.write_bytes(b"SQLite format 3" + bytes(1 << 20) + chance.randbytes(chance.choice((1, 40_000))))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), versions=st.integers(2, 4))
def test_any_version_is_restored_in_place_from_any_other(seed: int, versions: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as base:
        home, chunks = Path(base) / "home", DictChunks()
        home.mkdir()
        restorer = Restorer(chunks, Path(base) / "work")
        history = []
        for _ in range(versions):
            edit(home, chance, 8)
            history.append((take(home, chunks), shape(home)))
        for _ in range(4):
            (wanted, parts), expected = chance.choice(history)
            current, now = take(home, chunks)
            asyncio.run(restorer.in_place(home, current, wanted, segments=(now, parts)))
            assert shape(home) == expected
        shutil.rmtree(home)
        home.mkdir()
        (wanted, parts), expected = history[0]
        asyncio.run(restorer.full(home, wanted, segments=parts))
        assert shape(home) == expected


async def test_an_unreachable_chunk_leaves_the_home_as_it_is(tmp_path: Path) -> None:
    home, chunks = tmp_path / "home", DictChunks()
    home.mkdir()
    (home / "note").write_text("old")
    wanted, _ = take(home, chunks)
    (home / "note").write_text("newer")
    before = shape(home)
    current, _ = take(home, chunks)
    restorer = Restorer(DictChunks(), tmp_path / "work")
    with pytest.raises(KeyError):
        await restorer.in_place(home, current, wanted)
    assert shape(home) == before
    assert await restorer.resume(home) == []
    assert list((tmp_path / "work" / "rejected").iterdir()) == []


@pytest.mark.parametrize("path", [b"../evil", b"/evil", b"a/../../evil", b"a//b", b".", b"x" * 256, b"a\x00b"])
async def test_a_hostile_path_is_refused(tmp_path: Path, path: bytes) -> None:
    home = tmp_path / "home"
    home.mkdir()
    entry = Entry(path=path, kind="file", mode=0o600, uid=os.getuid(), gid=os.getgid(), mtime_ns=1)
    restorer = Restorer(DictChunks(), tmp_path / "work")
    with pytest.raises(VolumeDamaged):
        await restorer.in_place(home, [], [entry])
    assert list(home.iterdir()) == []


async def test_a_symlink_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    home, outside, chunks = tmp_path / "home", tmp_path / "outside", DictChunks()
    (home / "a").mkdir(parents=True)
    outside.mkdir()
    (home / "a" / "note").write_text("old")
    wanted, _ = take(home, chunks)
    (home / "a" / "note").write_text("newer")
    current, _ = take(home, chunks)
    shutil.rmtree(home / "a")
    (home / "a").symlink_to(outside)
    with pytest.raises(VolumeError):
        await Restorer(chunks, tmp_path / "work").in_place(home, current, wanted)
    assert list(outside.iterdir()) == []
    assert (home / "a").is_symlink()
