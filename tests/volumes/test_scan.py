"""Looking at a home: its paths, their facts, contents in pieces."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import noise

from relit.volumes import chunking
from relit.volumes.beneath import Beneath
from relit.volumes.ignore import Ignore, Rules
from relit.volumes.scan import READ, Home, clipped, holes, ranges, same, windows


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Beneath(tmp_path) as beneath:
        yield Home(beneath, Ignore(Rules(("*.log", "cache/"))))


def paths(home: Home, under: bytes = b"") -> list[bytes]:
    return [path for path, _ in home.walk(under)]


def test_a_walk_tells_folders_before_what_is_in_them(home: Home, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("1")
    (tmp_path / "d").symlink_to("a")
    found = paths(home)
    assert sorted(found) == [b"", b"a", b"a/b", b"a/b/c", b"d"]
    assert all(found.index(path.rpartition(b"/")[0]) < found.index(path) for path in found if path)
    assert paths(home, b"a/b") == [b"a/b", b"a/b/c"]
    assert paths(home, b"d") == [b"d"]
    assert paths(home, b"d/b") == paths(home, b"none") == []


def test_what_is_left_out_is_neither_walked_nor_looked_at(home: Home, tmp_path: Path) -> None:
    (tmp_path / "cache" / "in").mkdir(parents=True)
    (tmp_path / "x.log").touch()
    (tmp_path / "kept").touch()
    assert sorted(paths(home)) == [b"", b"kept"]
    assert home.look(b"cache/in") is home.look(b"x.log") is home.look(b"cache") is None
    assert home.skipped == {}


def test_a_folder_that_vanishes_while_it_is_walked_is_empty(home: Home, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name / "in").mkdir(parents=True)
    found = []
    for path, _ in home.walk():
        found.append(path)
        if len(found) == 2:
            for name in ("a", "b", "c"):
                shutil.rmtree(tmp_path / name, ignore_errors=True)
    assert set(found) <= {b"", b"a", b"b", b"c"}
    assert home.names(b"a") == []


def test_a_folder_that_becomes_a_symlink_is_not_gone_into(home: Home, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    found = home.look(b"a/b")
    assert found is not None
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "real" / "b").mkdir(parents=True)
    (tmp_path / "a").symlink_to("real")
    home.beneath.forget(b"")
    assert home.names(b"a/b") == []
    assert home.entry(b"a/b", found) is None
    assert home.look(b"a/b") is None


def test_an_entry_tells_mode_times_and_attributes(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    file.chmod(0o4640)
    os.utime(file, ns=(1, 1_234_567_891))
    os.setxattr(file, "user.b", b"2")
    os.setxattr(file, "user.a", b"1")
    found = home.look(b"file")
    assert found is not None
    entry = home.entry(b"file", found)
    assert entry is not None
    assert (entry.kind, entry.mode, entry.mtime_ns, entry.size) == ("file", 0o4640, 1_234_567_891, 5)
    assert entry.xattrs.index(b"user.a") < entry.xattrs.index(b"user.b")
    assert same(entry, found)


@pytest.mark.parametrize("change", ["content", "mode", "times", "inode", "kind", "attribute"])
def test_a_touched_path_does_not_look_the_same(home: Home, tmp_path: Path, change: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    found = home.look(b"file")
    assert found is not None
    entry = home.entry(b"file", found)
    assert entry is not None
    if change == "content":
        file.write_bytes(b"54321")
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    elif change == "mode":
        file.chmod(0o600 if entry.mode != 0o600 else 0o644)
    elif change == "times":
        os.utime(file, ns=(0, 0))
    elif change == "attribute":
        os.setxattr(file, "user.a", b"1")
    else:
        file.unlink()
        (tmp_path / "other").touch()
        file.mkdir() if change == "kind" else file.write_bytes(b"12345")
    after = home.look(b"file")
    assert after is not None
    assert not same(entry, after)


EXTENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30_000)), max_size=5)


@settings(max_examples=60, deadline=None)
@given(extents=EXTENTS, tail=st.integers(0, 300_000), blocks=st.booleans())
def test_pieces_and_holes_are_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, extents: list[tuple[int, int]], tail: int, blocks: bool
) -> None:
    path = tmp_path_factory.mktemp("sparse") / "file"
    with open(path, "wb") as file:
        for at, length in extents:
            file.seek(at * 16_384)
            file.write(noise(length, at))
        file.truncate(max(file.tell(), tail))
    data = path.read_bytes()
    fd = os.open(path, READ)
    try:
        gaps = holes(fd, os.fstat(fd))
        arena = memoryview(bytearray(1 << 20))
        pieces = [
            bytes(each) for each in windows(fd, len(data), gaps, arena, lambda v: chunking.cuts(v, blocks=blocks))
        ]
    finally:
        os.close(fd)
    stream, rebuilt = b"".join(pieces), bytearray(len(data))
    at = 0
    for offset, length in ranges(len(data), gaps):
        rebuilt[offset : offset + length] = stream[at : at + length]
        at += length
    assert at == len(stream)
    assert bytes(rebuilt) == data


def test_a_file_that_became_shorter_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(noise(100_000))
    fd = os.open(path, READ)
    try:
        before = os.fstat(fd)
        os.truncate(path, 40_000)
        pieces = windows(
            fd, before.st_size, [], memoryview(bytearray(1 << 20)), lambda v: chunking.cuts(v, blocks=False)
        )
        assert b"".join(bytes(each) for each in pieces) == noise(100_000)[:40_000]
        assert holes(fd, before) == []
    finally:
        os.close(fd)


@given(size=st.integers(0, 200), gaps=st.lists(st.integers(1, 200), max_size=6), total=st.integers(0, 200))
def test_a_clipped_file_holds_what_was_read_and_no_more(size: int, gaps: list[int], total: int) -> None:
    edges = sorted({min(each, size) for each in gaps})
    some = [(one, other - one) for one, other in zip(edges[::2], edges[1::2], strict=False)]
    whole = sum(length for _, length in ranges(size, some))
    shorter, left = clipped(size, some, min(total, whole))
    assert sum(length for _, length in ranges(shorter, left)) == min(total, whole)
    assert left == some[: len(left)]
    assert clipped(size, some, whole) == (size, some)
