"""A runtime's folder: locked while it is made, made aside, and there only when it is whole.

``KIND/.lock`` is held by whoever makes or removes a version of the kind, and freed by the kernel when that process
dies. ``KIND/.VERSION.partial-XXXX`` is what is being made or removed. Who holds the lock may take every such folder
for a dead process's, and ends what that has left running: tools carry the folder's name in their environment.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from relit.lib.proc import kill_marked
from relit.lib.service import finished

_LIBC = ctypes.CDLL(None, use_errno=True)
_LOOK_S = 0.2  # how often a waiting installer looks whether the lock is free: a blocked thread could not be cancelled


class Lock:
    """The lock of a kind's folder, which is made if need be. It also holds between parts of one process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Whether it is ours now."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._fd)


@asynccontextmanager
async def alone(folder: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Nobody else makes or removes anything in that folder meanwhile. ``waiting`` is called if somebody does now."""
    lock = Lock(folder)
    try:
        if not lock.take():
            waiting()
            while not lock.take():  # noqa: ASYNC110 - no event of ours: another process frees it
                await asyncio.sleep(_LOOK_S)
        yield
    finally:
        lock.close()


@asynccontextmanager
async def partial(folder: Path, version: str) -> AsyncIterator[Path]:
    """A new folder to make a version in; what is not published is removed. Only for who is ``alone``."""
    await finished(asyncio.to_thread(sweep, folder))
    place = Path(tempfile.mkdtemp(prefix=f".{version}.partial-", dir=folder))
    try:
        yield place
    finally:
        await finished(asyncio.to_thread(_drop, place))


def sweep(folder: Path) -> None:
    """Remove what dead installers have left behind."""
    for place in folder.glob(".*.partial-*"):
        _drop(place)


def tidy(folder: Path) -> None:
    """As ``sweep``, unless somebody makes or removes something there. What is not ours to remove stays."""
    with suppress(OSError):
        if any(folder.glob(".*.partial-*")):
            with closing(Lock(folder)) as lock:
                if lock.take():
                    sweep(folder)


def publish(place: Path, final: Path) -> None:
    """Bring what was made to the disk, then under its name. What stood there before goes, once this stands there."""
    _sync_filesystem(place)
    old = _put_aside(final) if final.exists() else None
    os.rename(place, final)
    _sync_folder(final.parent)
    if old is not None:
        _drop(old)


def discard(final: Path) -> None:
    """Take a version away: at once it is no longer there, whatever happens then."""
    _drop(_put_aside(final))


def _put_aside(final: Path) -> Path:
    aside = Path(tempfile.mkdtemp(prefix=f".{final.name}.partial-", dir=final.parent))
    os.rename(final, aside / final.name)
    return aside


def _drop(place: Path) -> None:
    kill_marked(place.name)
    if place.exists():
        shutil.rmtree(place)


def _sync_filesystem(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
