"""Folders on disk: what a rename needs, and errors in words."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from relit.errors import RelitError, StoreFull, VolumeError


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
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"cannot write to the spool {folder}", why=why, fix="free some space there") from error
        raise VolumeError(f"cannot use the spool {folder}", why=why, fix=f"ls -la {folder}") from error
