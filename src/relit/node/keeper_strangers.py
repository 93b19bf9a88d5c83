"""Lives that a keeper before us had started: no children of ours, so no signal tells of their ends. Standard library
only."""

import os
import select
import time
from collections.abc import Callable

from relit.node import kin
from relit.node.keeper_files import Files
from relit.node.keeper_lives import Life

LOOK_S = 0.5  # between looks at those that no descriptor could be had for


class Strangers:
    """``ended`` hears of each that is gone for certain: it may kill what is left of that one's tree."""

    def __init__(self, poll: select.epoll, files: Files, ended: Callable[[Life], None]) -> None:
        self._poll, self._files, self._ended = poll, files, ended
        self._by_pidfd: dict[int, Life] = {}
        self._unwatched: list[Life] = []
        self._look_at = 0.0

    def watch(self, life: Life) -> None:
        """From now on. Where no descriptor is to be had, it is looked at until there is one."""
        try:
            self._open(life)
        except ProcessLookupError:
            return self._ended(life)
        except OSError:
            self._unwatched.append(life)
        if kin.gone(life.pid, life.start):
            self._ended(life)

    def _open(self, life: Life) -> None:
        pidfd = os.pidfd_open(life.pid)
        try:
            pidfd = self._files.keep(pidfd)
            self._poll.register(pidfd, select.EPOLLIN)
        except OSError:
            os.close(pidfd)
            raise
        life.pidfd = pidfd
        self._by_pidfd[pidfd] = life

    def serve(self, fd: int) -> bool:
        """What epoll told of a descriptor; false: it is none of ours."""
        life = self._by_pidfd.get(fd)
        if life is not None:
            self._ended(life)
        return life is not None

    def look(self) -> None:
        """At those that are not watched, now and then."""
        if self.wait_s() == 0:
            unwatched, self._unwatched = self._unwatched, []
            for life in unwatched:
                self.watch(life)
            self._look_at = time.monotonic() + LOOK_S

    def wait_s(self) -> float | None:
        """Until the next look."""
        return max(0.0, self._look_at - time.monotonic()) if self._unwatched else None

    def drop(self, life: Life) -> None:
        """It is watched no more."""
        self._unwatched = [each for each in self._unwatched if each is not life]
        if life.pidfd != -1:
            del self._by_pidfd[life.pidfd]
            self._poll.unregister(life.pidfd)
            os.close(life.pidfd)
            life.pidfd = -1
