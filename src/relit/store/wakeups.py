"""Wake-ups: who waits for a topic hears when it is announced, in this process and in its neighbours.

A wake-up is a hint, never the truth: it says "look again", and whoever hears it reads the store. So it may be given
too often; being lost costs no more than the slow poll that every waiter keeps. That allows the cheap form: topics are
coalesced, and a neighbour that cannot keep up is told once to look at everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import threading
from collections.abc import Collection, Iterable
from pathlib import Path

from relit.errors import ConfigError
from relit.lib.clock import SYSTEM_CLOCK, Clock

EVERYTHING = "*"  # announced: wakes every subscription

_MOST_TOPICS = 500
_MOST_BYTES = 32 * 1024
_LONGEST_PATH = 100  # sun_path holds 107 bytes on Linux and 103 elsewhere
_RETRY_FIRST = 0.02
_RETRY_MOST = 1.0
_SETTLED = 2.0  # seconds; more than the granularity of any file system's mtime


class Listener:
    """One subscription. ``wait`` belongs to the event loop it was made in; it may be woken from any thread."""

    def __init__(self, owner: Wakeups, topics: tuple[str, ...]) -> None:
        self._owner = owner
        self._topics = topics
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._event = asyncio.Event()
        self._woken = False

    @property
    def topics(self) -> tuple[str, ...]:
        """What it listens to."""
        return self._topics

    async def wait(self, timeout: float | None = None) -> bool:
        """True when a topic was announced since the last wait, false on timeout (seconds)."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            if not self._event.is_set():
                return False
        self._event.clear()
        # From here on an announcement wakes again. One that came just before is covered by this return: its holder
        # reads the store only now.
        self._woken = False
        return True

    def close(self) -> None:
        """Hear nothing more. Safe twice."""
        self._owner.forget(self)

    def wake(self) -> None:
        """Let ``wait`` return; from any thread."""
        if self._woken:
            return
        self._woken = True
        if threading.get_ident() == self._thread:
            self._event.set()
            return
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # its loop is closed: nobody will ever wait again
            self.close()


class Wakeups:
    """Topics within this process. ``announce`` may be called from any thread and costs next to nothing unheard."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Values are replaced, never changed: announce reads them without the lock.
        self._listeners: dict[str, tuple[Listener, ...]] = {}

    async def start(self) -> None:
        """Be ready to hear neighbours; nothing to do within one process."""

    async def stop(self) -> None:
        """Safe twice, and before ``start``."""

    def subscribe(self, *topics: str) -> Listener:
        """Listen to exactly these topics, from now on. Call it in the event loop that will wait."""
        listener = Listener(self, topics)
        with self._lock:
            for topic in topics:
                self._listeners[topic] = (*self._listeners.get(topic, ()), listener)
        return listener

    def forget(self, listener: Listener) -> None:
        """End a subscription (``Listener.close`` calls it)."""
        with self._lock:
            for topic in listener.topics:
                left = tuple(each for each in self._listeners.get(topic, ()) if each is not listener)
                if left:
                    self._listeners[topic] = left
                else:
                    self._listeners.pop(topic, None)

    def announce(self, topics: Collection[str]) -> None:
        """Wake everyone who listens to one of ``topics`` (to anything, when ``*`` is among them)."""
        if EVERYTHING in topics:
            with self._lock:
                topics = list(self._listeners)
        find = self._listeners.get
        for topic in topics:
            for listener in find(topic, ()):
                listener.wake()


class LocalSocketWakeups(Wakeups):
    """Topics within this process and among all processes of this machine that share ``folder``.

    Each process binds a datagram socket of its own in the folder; an announcement is one datagram to each of the
    others. Nothing ever blocks: a neighbour whose buffer is full is owed a "look at everything".
    """

    def __init__(self, folder: Path, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__()
        self._folder = folder
        self._clock = clock
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._sending = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: socket.socket | None = None
        self._neighbours: _Neighbours | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_after = _RETRY_FIRST

    async def start(self) -> None:
        """Bind this process's socket. Raises ``ConfigError`` when the folder cannot hold one."""
        if self._inbox is not None:
            return
        try:
            neighbours, self._inbox = self._bind()
        except OSError as error:
            raise ConfigError(
                f"cannot make a socket in {self._folder}",
                why=str(error),
                fix="choose a data folder on a local disk that you may write to (RELIT_DATA, --data)",
            ) from error
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inbox, self._receive)
        with self._sending:
            self._neighbours = neighbours

    def _bind(self) -> tuple[_Neighbours, socket.socket]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        neighbours = _Neighbours(self._folder, self._name, self._clock)
        try:
            return neighbours, neighbours.bind()
        except OSError:
            neighbours.close()
            raise

    async def stop(self) -> None:
        """Remove the socket. Announcements stay within the process from now on."""
        if self._inbox is None or self._loop is None:
            return
        self._loop.remove_reader(self._inbox)
        self._inbox.close()
        self._inbox = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        with self._sending:
            if self._neighbours is not None:
                self._neighbours.close()
            self._neighbours = None

    def announce(self, topics: Collection[str]) -> None:
        """As ``Wakeups.announce``, and on to the neighbours."""
        super().announce(topics)
        if topics:
            self._tell(_packed(topics))

    def _tell(self, datagram: bytes) -> None:
        with self._sending:
            owing = self._neighbours is not None and self._neighbours.tell(datagram)
        if owing and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: stop() was never called, nobody is owed
                self._loop.call_soon_threadsafe(self._retry_later)

    def _retry_later(self) -> None:
        if self._retry is None and self._inbox is not None and self._loop is not None:
            self._retry = self._loop.call_later(self._retry_after, self._settle)
            self._retry_after = min(_RETRY_MOST, self._retry_after * 2)

    def _settle(self) -> None:
        self._retry = None
        with self._sending:
            owing = self._neighbours is not None and self._neighbours.settle()
        if owing:
            self._retry_later()
        else:
            self._retry_after = _RETRY_FIRST

    def _receive(self) -> None:
        heard: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            for _ in range(1000):  # bounded, so that a storm does not starve the loop
                if self._inbox is None:
                    return
                heard.update(self._inbox.recv(2 * _MOST_BYTES).decode(errors="replace").split("\n"))
        Wakeups.announce(self, heard)


def _packed(topics: Collection[str]) -> bytes:
    if len(topics) > _MOST_TOPICS:
        return EVERYTHING.encode()
    datagram = "\n".join(topics).encode()
    return datagram if len(datagram) <= _MOST_BYTES else EVERYTHING.encode()


class _Neighbours:
    """The other sockets of the folder. Not thread-safe: its owner holds a lock.

    One connected socket for each, because what one stuck neighbour has not read counts against its sender's buffer
    and would otherwise hold up the rest.
    """

    def __init__(self, folder: Path, own_name: str, clock: Clock) -> None:
        self._folder = folder
        self._own_name = own_name
        self._clock = clock
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._sockets: dict[str, socket.socket] = {}
        self._owed: set[str] = set()
        self._mtime = -1
        self._mtime_seen = 0.0
        self._listed = -1.0

    def bind(self) -> socket.socket:
        """This process's socket, readable and writable by its user only."""
        inbox = _datagram_socket()
        try:
            os.fchmod(inbox.fileno(), 0o600)  # on Linux the file is then born with this mode
            inbox.bind(self._address(self._own_name))
            os.chmod(self._own_name, 0o600, dir_fd=self._descriptor)
        except OSError:
            inbox.close()
            raise
        return inbox

    def tell(self, datagram: bytes) -> bool:
        """Send to all; whoever is owed something gets "everything" instead. Answers whether anyone is still owed."""
        self._refresh()
        for name in list(self._sockets):
            self._send(name, EVERYTHING.encode() if name in self._owed else datagram)
        return bool(self._owed)

    def settle(self) -> bool:
        """Try again to tell those who are owed. Answers whether anyone is still owed."""
        for name in list(self._owed):
            self._send(name, EVERYTHING.encode())
        return bool(self._owed)

    def close(self) -> None:
        self._unlink(self._own_name)
        for name in list(self._sockets):
            self._drop(name)
        os.close(self._descriptor)

    def _send(self, name: str, datagram: bytes) -> None:
        try:
            self._sockets[name].send(datagram)
            self._owed.discard(name)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
                self._owed.add(name)
                return
            self._drop(name)
            if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN):
                self._unlink(name)  # bound by a process that is gone

    def _refresh(self) -> None:
        """List the folder again if it may have changed.

        A change in the same clock tick leaves the mtime as it was, so a listing is trusted only when it was made a
        while after its mtime was first seen.
        """
        mtime, now = os.fstat(self._descriptor).st_mtime_ns, self._clock.monotonic()
        if mtime != self._mtime:
            self._mtime, self._mtime_seen = mtime, now
        elif self._listed > self._mtime_seen + _SETTLED:
            return
        self._listed = now
        self._match({name for name in os.listdir(self._descriptor) if name.endswith(".sock")} - {self._own_name})

    def _match(self, names: Iterable[str]) -> None:
        present = set(names)
        for name in self._sockets.keys() - present:
            self._drop(name)
        for name in present - self._sockets.keys():
            self._connect(name)

    def _connect(self, name: str) -> None:
        outgoing = _datagram_socket()
        try:
            outgoing.connect(self._address(name))
        except OSError as error:
            outgoing.close()
            if error.errno == errno.ECONNREFUSED:
                self._unlink(name)
            return  # gone, or not ours to speak to: the slow poll is left
        self._sockets[name] = outgoing

    def _drop(self, name: str) -> None:
        self._sockets.pop(name).close()
        self._owed.discard(name)

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def _address(self, name: str) -> str:
        direct = str(self._folder / name)
        if len(os.fsencode(direct)) <= _LONGEST_PATH or not os.path.isdir("/proc/self/fd"):
            return direct
        return f"/proc/self/fd/{self._descriptor}/{name}"  # however deep the folder, this is short


def _datagram_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made
