"""Whose machine it is: one node's. A second one that counts all memory as its own is told of the first."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from relit.lib.clock import Clock

NAME = "\0relit-machine"  # not a file: it is free when its owner is dead, and in every container anew
_CRED = struct.Struct("3i")
_AGAIN_S = 30.0


class Claim:
    """Of one node. Two nodes that each know only their own starts let in too many, and both make room at once."""

    def __init__(self, clock: Clock, name: str = NAME) -> None:
        self._clock = clock
        self._name = name
        self._socket: socket.socket | None = None
        self._asked = float("-inf")
        self._other: int | None = None

    def other(self) -> int | None:
        """The process id of the node that was here before; ``None``: there is none. Cheap."""
        now = self._clock.monotonic()
        if self._socket is not None:
            self._greet(self._socket)
        elif now - self._asked >= _AGAIN_S:
            self._asked = now
            self._other = None if self._claim() else self._owner()
        return self._other

    def close(self) -> None:
        """It is free."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _claim(self) -> bool:
        mine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            mine.setblocking(False)
            mine.bind(self._name)
            mine.listen(8)
        except OSError:
            mine.close()
            return False
        self._socket = mine
        return True

    def _greet(self, mine: socket.socket) -> None:
        """Those that came to look; else nobody can after a while."""
        with contextlib.suppress(OSError):
            while True:
                mine.accept()[0].close()

    def _owner(self) -> int | None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.setblocking(False)
            try:
                line.connect(self._name)
            except BlockingIOError:  # it is there, and has not greeted for long
                return self._other
            pid, _, _ = _CRED.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CRED.size))
            return pid if pid != os.getpid() else None
        return None
