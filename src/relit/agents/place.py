"""Reading and writing in an agent's home, where the agent may have put a symlink anywhere: none is followed."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def folder_of(home: Path, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """(the open folder that holds ``path``, its name in it). OSError when a folder on the way is none, or a link."""
    *above, name = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in above or name == "..":
        raise ValueError(f"{path}: leads out of the home")
    here = os.open(home, _FOLDER)
    try:
        for part in above:
            if make:
                _make(here, part)
            below = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here, name
    finally:
        os.close(here)


def _make(folder: int, name: str) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return


def make(home: Path, path: str) -> None:
    """Make a folder, and those on the way to it. OSError when one is there that is none, or a link."""
    with folder_of(home, f"{path}/in-it", make=True):
        return


def read(home: Path, path: str, most: int) -> bytes:
    """A plain file's content. OSError; ValueError when it is larger than ``most``, or no plain file."""
    with folder_of(home, path) as (folder, name):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is not a plain file")
            data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {most} bytes")
    return data


def says(home: Path, path: str, data: bytes) -> bool:
    """Whether a plain file there has this content."""
    try:
        return read(home, path, len(data)) == data
    except (OSError, ValueError):
        return False


def remove(home: Path, path: str) -> None:
    """Remove a file or link; not there is fine. OSError."""
    with contextlib.suppress(FileNotFoundError), folder_of(home, path) as (folder, name):
        os.unlink(name, dir_fd=folder)


def write(home: Path, path: str, data: bytes) -> None:
    """Replace a file, whole or not at all; its mode and owner stay. A new one is 0600 and belongs to who owns the
    home. OSError."""
    with folder_of(home, path, make=True) as (folder, name):
        try:
            was = os.stat(name, dir_fd=folder, follow_symlinks=False)
            mode, owner = was.st_mode & 0o7777, was
        except FileNotFoundError:
            mode, owner = 0o600, os.stat(home)
        draft = f".{name}.relit-new"
        with contextlib.suppress(FileNotFoundError):  # of a write that was killed; or a pipe, which would be waited for
            os.unlink(draft, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(draft, flags, 0o600, dir_fd=folder)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, owner.st_uid, owner.st_gid)
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
