"""Durable writes into a folder: new file, fsync, rename, fsync of each folder above.

obstore's own folder writes reach the disk some time later, and a row that refers to a content must not be on disk
before the content is.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from relit.lib.clock import Clock

DRAFTS = "tmp"  # below the root: what is being written
_LEFTOVER_MS = 24 * 3_600_000


class Folder:
    """Durable writes into a folder. Blocking: it runs in a thread."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._swept = False

    def keep(self, key: str, data: bytes) -> None:
        """Return when ``data`` is on disk under ``key``, whole, with every folder that leads to it."""
        target = self._target(key)
        if not self._refresh(target, data):
            self._write(target, data)
        # Also when it was there: its writer may not have come as far as this yet.
        self._sync_above(target)

    def put(self, key: str, data: bytes, *, absent: bool = False) -> None:
        """Return when ``data`` is on disk under ``key``. ``absent``: FileExistsError when something is there."""
        target = self._target(key)
        self._write(target, data, absent=absent)
        self._sync_above(target)

    def adopt(self, key: str, path: Path) -> None:
        """Return when the content of ``path`` is on disk under ``key``; the same file where a link can be made."""
        target = self._target(key)
        with self._draft() as draft:
            try:
                os.link(path, draft)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                    raise
                shutil.copyfile(path, draft)
                draft.chmod(0o600)
            _sync(draft, os.O_RDONLY)
            os.replace(draft, target)
        self._sync_above(target)

    def _target(self, key: str) -> Path:
        target = self._root / key
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return target

    def _sync_above(self, target: Path) -> None:
        for folder in (*itertools.takewhile(lambda each: each != self._root, target.parents), self._root):
            _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
        _sync(self._root.parent, os.O_RDONLY | os.O_DIRECTORY)

    def _refresh(self, target: Path, data: bytes) -> bool:
        try:
            if target.read_bytes() != data:
                return False
            os.utime(target)
        except FileNotFoundError:
            return False
        return True

    def _write(self, target: Path, data: bytes, *, absent: bool = False) -> None:
        with self._draft() as draft:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if absent:
                os.link(draft, target)
            else:
                os.replace(draft, target)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        drafts = self._root / DRAFTS
        drafts.mkdir(mode=0o700, exist_ok=True)
        self._sweep(drafts)
        draft = drafts / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield draft
        finally:  # a rename onto another name of the same file leaves both
            draft.unlink(missing_ok=True)

    def _sweep(self, drafts: Path) -> None:
        """Once for each process: remove what writers left that died in the middle."""
        if self._swept:
            return
        self._swept = True
        oldest = (self._clock.now_ms() - _LEFTOVER_MS) / 1000
        for left in drafts.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < oldest:
                    left.unlink()


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
