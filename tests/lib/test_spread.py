"""A new folder begins in a part of the disk of its own, and the one around it stays as it was."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from relit.lib import spread as subject
from relit.lib.spread import spread


def flags_of(folder: Path) -> int:
    fd = os.open(folder, os.O_RDONLY)
    try:
        (flags,) = subject._FLAGS.unpack(fcntl.ioctl(fd, subject._GET, bytes(4)))
    except OSError as error:
        pytest.skip(f"this filesystem has no such flags: {error}")
    finally:
        os.close(fd)
    return int(flags)


def test_the_mark_is_there_meanwhile_alone(tmp_path: Path) -> None:
    before = flags_of(tmp_path)
    with spread(tmp_path):
        if not flags_of(tmp_path) & subject._TOP:
            pytest.skip("this filesystem does not know the mark")
        with spread(tmp_path):
            (tmp_path / "made").mkdir()
        assert flags_of(tmp_path) & subject._TOP, "who found it there leaves it there"
    assert flags_of(tmp_path) == before


@pytest.mark.parametrize("place", ["/proc", "/dev/shm"])
def test_where_there_is_no_such_mark_nothing_is_lost(place: str) -> None:
    with spread(Path(place)):
        pass


def test_a_folder_that_is_not_there_is_its_users_trouble(tmp_path: Path) -> None:
    with spread(tmp_path / "none"), pytest.raises(FileNotFoundError):
        (tmp_path / "none" / "made").mkdir()
