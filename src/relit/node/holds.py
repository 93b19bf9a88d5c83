"""Hold files: while an instance's is there, it does not run. The file (``holdfile``) is the truth; the keeper asks it
once more."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from pathlib import Path

from relit.control.values import PARKED
from relit.lib.service import Tasks
from relit.node import holdfile, parked
from relit.node.holdfile import NOBODY
from relit.node.parked import Parked

POLL_S = 0.04  # between looks where the kernel gives no events
SURE_S = 5.0  # and where it does: a folder may have been replaced
_CREATE, _DELETE, _MOVED_FROM, _MOVED_TO, _CLOSE_WRITE = 0x100, 0x200, 0x40, 0x80, 0x8
_MASK = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _CLOSE_WRITE
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Hold:
    """One instance's. Without a path it is never held."""

    def __init__(self, path: str | None = None, park: str | None = None) -> None:
        self.path = path
        self.aside = Path(park) if park is not None else None if path is None else parked.beside(path)
        self.spare: str | None = None  # why its pool does not need it
        self.parked: Parked | None = None
        self._reason: str | None = None
        self.by_person = self.held = False
        self._news = asyncio.Event()

    def look(self) -> str | None:
        """Why it is held now: the file's first line, or why it is parked. ``None``: it may run."""
        now, self.by_person = (None, False) if self.path is None else _read(self.path)
        self.held = now is not None
        self.parked = None if self.aside is None else parked.read(self.aside)
        if now is None and self.parked is not None:
            now = f"{PARKED}{self.parked.reason}"
        if now is None:
            now = self.spare
        if now != self._reason:
            self._reason = now
            self._news.set()
            self._news = asyncio.Event()
        return now

    @property
    def freezes(self) -> bool:
        """Whether it is parked where it stands, and nobody wants more of it."""
        return self.look() is not None and not self.held and self.parked is not None and self.parked.deed == "freeze"

    @property
    def at_once(self) -> bool:
        """Whether there is no time for good order."""
        return self.parked is not None and self.parked.deed == "kill"

    @property
    def ends(self) -> bool:
        """Whether an end of it now is what was asked for: somebody holds it, and may have been faster than its node to
        end it, or it had to make room at once."""
        self.look()
        return self.held or self.at_once

    def park(self, now: Parked) -> None:
        """Make room. OSError: the file that says so cannot be written."""
        assert self.aside is not None, "whoever cannot be held cannot be parked"
        parked.write(self.aside, now)
        self.look()

    def rest(self, why: str | None) -> None:
        """Its pool does not need it, and why; ``None``: it does."""
        if why != self.spare:
            self.spare = why
            self.look()

    def wake(self) -> None:
        """It may run, as far as room is concerned. A file that cannot be removed now is tried again later."""
        with contextlib.suppress(OSError):
            if self.aside is not None and parked.wake(self.aside):
                self.look()

    @property
    def change(self) -> asyncio.Event:
        """Set when the file comes, goes, or says something else than now."""
        return self._news

    async def news(self) -> None:
        """Until then, from when this is run on."""
        await self._news.wait()

    async def there(self) -> None:
        """Until it is held."""
        while self.look() is None:
            await self.news()

    async def taken(self) -> None:
        """Until a person holds it: what relit does to heal it ends then."""
        while self.look() is None or not self.by_person:
            await self.news()


def _read(path: str) -> tuple[str | None, bool]:
    """(why it is held, whether by a person)."""
    if not os.path.lexists(path):
        return None, False
    try:
        found = holdfile.read(path)
        if found.alive() != found:
            with holdfile.changing(path, wait=False) as change:
                found = change.now = change.was.alive()
    except OSError as error:  # or somebody changes it right now: it is looked at again
        return (f"{path}: {error.strerror}", False) if os.path.lexists(path) else (None, False)
    return (None, False) if found == NOBODY else (found.reason, found.person is not None)


class Holds:
    """Looks after the hold files of a node's instances: within milliseconds by inotify, else by looking often."""

    def __init__(self) -> None:
        self._holds: set[Hold] = set()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1

    def start(self, tasks: Tasks) -> None:
        """Begin to watch."""
        self._fd = self._libc.inotify_init1(_FLAGS)
        if self._fd != -1:
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        tasks.spawn(self._poll(), "node-holds")

    def close(self) -> None:
        """Watch no longer."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    def add(self, path: str | None, park: str | None = None) -> Hold:
        """The hold of one more instance. Its folder is made."""
        hold = Hold(path, park)
        if path is not None:
            with contextlib.suppress(OSError):  # a full disk: the file cannot come either; ``_poll`` looks all the same
                Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._holds.add(hold)
            self._watch(hold)
        return hold

    def remove(self, hold: Hold) -> None:
        """That instance is gone."""
        self._holds.discard(hold)

    def _watch(self, hold: Hold) -> bool:
        """Whether events come for it. Asked again for the same folder it changes nothing."""
        if self._fd == -1 or hold.path is None:
            return False
        folder = os.fsencode(os.path.dirname(hold.path))
        return int(self._libc.inotify_add_watch(self._fd, folder, _MASK)) != -1

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, 1 << 16):
                pass
        for hold in self._holds:
            hold.look()

    async def _poll(self) -> None:
        while True:
            events = [self._watch(hold) for hold in self._holds]
            for hold in self._holds:
                hold.look()
            await asyncio.sleep(SURE_S if self._fd != -1 and all(events) else POLL_S)
