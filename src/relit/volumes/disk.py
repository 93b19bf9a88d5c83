"""Folders on disk: what a rename needs, and errors in words."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from relit.errors import RelitError, StoreFull, VolumeError
from relit.lib.space import is_full


def sync_folder(folder: Path) -> None:
    """The names in it are on disk when this returns."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """An OSError within becomes StoreFull or VolumeError."""
    try:
        yield
    except RelitError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        if is_full(error):
            raise StoreFull(f"cannot write to the spool {folder}", why=why, fix="free some space there") from error
        raise VolumeError(f"cannot use the spool {folder}", why=why, fix=f"ls -la {folder}") from error


@contextlib.contextmanager
def attempted(what: str, fix: str = "mend the cause, then again") -> Iterator[None]:
    """An OSError within becomes StoreFull or VolumeError that says ``what`` was not done."""
    try:
        yield
    except OSError as error:
        raise failed(what, error, fix) from error


def failed(what: str, error: BaseException, fix: str) -> RelitError:
    """What an error of the system means to whoever asked for something."""
    if is_full(error):
        return StoreFull(f"{what}: no space left", why=str(error), fix="df -h; free some space")
    return VolumeError(what, why=str(error), fix=fix)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is below, however deep: what lies deeper is moved up first."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            while names := os.listdir(fd):
                for name in names:
                    if not _unlinked(name, fd):
                        _lift(name, fd)
        finally:
            os.close(fd)
        os.rmdir(folder)


def _unlinked(name: str, fd: int) -> bool:
    """Whether it is gone: no folder."""
    if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=fd)
    return True


def _lift(name: str, fd: int) -> None:
    """Empty a folder into the one above, and remove it."""
    os.chmod(name, 0o700, dir_fd=fd)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        for each in os.listdir(inner):
            if not _unlinked(each, inner):
                os.chmod(each, 0o700, dir_fd=inner)
                os.rename(each, f".{secrets.token_hex(16)}", src_dir_fd=inner, dst_dir_fd=fd)
    finally:
        os.close(inner)
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # a helper of a killed process has just written there: once more
            raise
