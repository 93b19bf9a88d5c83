"""Contents pass through the page cache: they come to the disk, errors are told, and nobody waits for a slow disk."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from relit.lib import pages
from relit.lib.pages import Stream, Trail

MIB = 1 << 20


class Libc:
    """Notes what is asked; ``code`` is the error that each call fails with."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []
        self.code = 0

    def sync_file_range(self, fd: int, offset: ctypes.c_int64, length: ctypes.c_int64, flags: ctypes.c_uint) -> int:
        assert fd >= 0
        self.calls.append((offset.value, length.value, flags.value))
        ctypes.set_errno(self.code)
        return -1 if self.code else 0


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> Libc:
    made = Libc()
    monkeypatch.setattr(pages, "_LIBC", made)
    return made


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    made = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield made
    os.close(made)


def opened(folder: Path, count: int) -> list[int]:
    return [os.open(folder / f"{number}", os.O_RDWR | os.O_CREAT) for number in range(count)]


def closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


def resident(path: Path) -> int:
    """Bytes of a file that are in memory."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as seen:
        held = (ctypes.c_ubyte * (-(-len(seen) // mmap.PAGESIZE)))()
        at = ctypes.c_char.from_buffer(seen)
        try:
            assert ctypes.CDLL(None).mincore(ctypes.byref(at), ctypes.c_size_t(len(seen)), held) == 0
        finally:
            del at
        return sum(each & 1 for each in held) * mmap.PAGESIZE


def on_a_disk(folder: Path) -> bool:
    """Whether pages can be let go there: a tmpfs has nothing else."""
    return os.statvfs(folder).f_fsid != 0


def test_a_stream_leaves_all_on_the_disk_and_little_in_memory(fd: int, tmp_path: Path) -> None:
    stream = Stream(fd)
    for number in range(1, 65):
        os.pwrite(fd, bytes([number]) * MIB, (number - 1) * MIB)
        stream.written(number * MIB)
    if on_a_disk(tmp_path):
        assert resident(tmp_path / "file") <= 24 * MIB
    with open(tmp_path / "file", "rb") as file:
        assert [file.read(MIB) == bytes([number]) * MIB for number in range(1, 65)] == [True] * 64


def test_a_stream_is_one_step_behind(fd: int, libc: Libc) -> None:
    stream = Stream(fd)
    for end in range(0, 33 * MIB, MIB):
        stream.written(end)
    begun = [(offset // MIB, length // MIB) for offset, length, flags in libc.calls if flags == 2]
    waited = [(offset // MIB, length // MIB) for offset, length, flags in libc.calls if flags == 7]
    assert begun == [(0, 8), (8, 8), (16, 8), (24, 8)]
    assert waited == [(0, 8), (8, 8), (16, 8)]


def test_what_the_disk_did_not_take_is_an_error_and_what_the_kernel_cannot_do_is_none(fd: int, libc: Libc) -> None:
    libc.code = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        Stream(fd).written(8 * MIB)
    for code in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
        libc.code = code
        Stream(fd).written(8 * MIB)


def test_advice_that_is_not_taken_is_no_error(fd: int, libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "posix_fadvise", none)
    stream = Stream(fd)
    for end in (8 * MIB, 16 * MIB):
        stream.written(end)
    pages.was_read(fd, 0, 8 * MIB)


def test_a_trail_lets_go_of_files_when_others_follow(tmp_path: Path, libc: Libc) -> None:
    trail, first = Trail(), opened(tmp_path, 3)
    trail.add(first, 100)
    assert not any(map(closed, first))
    (tmp_path / "more").mkdir()
    second = opened(tmp_path / "more", 2)
    trail.add(second, 100)
    assert all(map(closed, first))
    trail.finish()
    assert all(map(closed, second))
    assert [flags for _, _, flags in libc.calls] == [2] * 3 + [2] * 2 + [7] * 3 + [7] * 2
    trail.close()


def test_a_trail_closes_files_that_failed_too(tmp_path: Path, libc: Libc) -> None:
    trail, first = Trail(), opened(tmp_path, 3)
    trail.add(first, 100)
    libc.code = errno.ENOSPC
    with pytest.raises(OSError, match="space"):
        trail.finish()
    (tmp_path / "more").mkdir()
    second = opened(tmp_path / "more", 2)
    with pytest.raises(OSError, match="space"):
        trail.add(second, 100)
    trail.close()
    trail.close()
    assert all(map(closed, first + second))


def test_a_slow_disk_is_not_waited_for(tmp_path: Path, libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(pages.time, "monotonic", lambda: next(now) / 10)
    trail = Trail()
    for number in range(20):
        (tmp_path / f"{number}").mkdir()
        trail.add(opened(tmp_path / f"{number}", 1), 4 * MIB)
    assert 2 <= sum(flags == 7 for _, _, flags in libc.calls) <= 4
    before = len(libc.calls)
    trail.finish()
    assert len(libc.calls) == before
