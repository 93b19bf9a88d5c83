"""A thread that keeps a queue of events short. Whoever must know everything up to now reads the queue himself."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections.abc import Callable

from relit.volumes.watch import kernel

log = logging.getLogger("relit.volumes")
_BUFFER = 256 << 10
_PAUSE_S = 0.2  # events of one file merge in the queue meanwhile


class Reading:
    """Reads ``fd`` and gives buffers of whole events to ``take``, which answers how much of ``waiting`` they were.

    ``lock`` guards all that ``take`` changes.
    """

    def __init__(self, fd: int, take: Callable[[bytes], int], lose: Callable[[], None]) -> None:
        self.lock = threading.RLock()
        self._fd = fd
        self._take = take
        self._lose = lose
        self._stopping = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="relit-watch", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def catch_up(self) -> None:
        """Take every event that was queued before this call. OSError after ``stop``."""
        with self.lock:
            if self._stopping.is_set():
                raise OSError(errno.EBADF, "the watcher is closed")
            left = kernel.waiting(self._fd)
            while left > 0:
                try:
                    data = os.read(self._fd, _BUFFER)
                except BlockingIOError:
                    return
                left -= self._take(data)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._stopping.is_set():
            poll.poll()
            with self.lock:
                if self._stopping.is_set():
                    return
                try:
                    self.catch_up()
                except OSError as error:
                    log.warning("events of homes were lost: %s", error)
                    self._lose()
            self._stopping.wait(_PAUSE_S)

    def stop(self) -> None:
        """End the thread and close the queue. Safe twice."""
        with self.lock:
            if self._stopping.is_set():
                return
            self._stopping.set()
            os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._fd)
        os.close(self._wake)
