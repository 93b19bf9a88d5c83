"""Another process that works for this one: two processes do not wait for one interpreter's lock.

It is asked over its standard input and answers on its standard output, in frames: eight bytes of length, msgpack. It
ends when its input does, so that the death of its maker ends it. Blocking.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import IO, TypeVar

import msgspec

from relit.errors import VolumeError

_LENGTH = struct.Struct("<Q")
_GRACE_S = 5.0
_MUCH = 32 << 20
T = TypeVar("T")


def worthwhile(size: int) -> bool:
    """Whether so many bytes are worth another process, and there is a processor for it."""
    return size >= _MUCH and len(os.sched_getaffinity(0)) > 1


class Peer:
    """A process that runs ``module``; ``undone``: what its death means, as the error says. ``fds`` stay open in it.
    OSError: it was not started."""

    def __init__(self, module: str, undone: str, fds: Sequence[int] = ()) -> None:
        self._undone = undone
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for its maker, which brings to an end what it has begun
            pass_fds=fds,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout

    def asked(self, message: msgspec.Struct, kind: type[T]) -> T:
        """Its answer. VolumeError: there is none, for it has ended."""
        try:
            send(self._to, message)
            return receive(self._from, kind)
        except (BrokenPipeError, EOFError, msgspec.MsgspecError) as error:
            raise VolumeError(
                self._undone,
                why=f"the process that should have done it ended with {self._ended()}",
                fix="try again; agents/volumes/log/out.log of the data folder has what it said",
            ) from error

    def close(self) -> None:
        """Let it end. Safe twice."""
        if not self._to.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self._to.close()
        self._ended()
        self._from.close()

    def _ended(self) -> int:
        """Its exit code. One that does not end is killed."""
        try:
            return self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def send(to: IO[bytes], message: msgspec.Struct) -> None:
    """One frame."""
    data = msgspec.msgpack.encode(message)
    to.write(_LENGTH.pack(len(data)))
    to.write(data)
    to.flush()


def receive(source: IO[bytes], kind: type[T]) -> T:
    """The next frame. EOFError: there is none, or not all of it."""
    length = source.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        raise EOFError
    data = source.read(_LENGTH.unpack(length)[0])
    if len(data) < _LENGTH.unpack(length)[0]:
        raise EOFError
    return msgspec.msgpack.decode(data, type=kind)


def run(main: Callable[[IO[bytes], IO[bytes]], None]) -> None:
    """Be that other process: ``main`` reads from its first argument and answers to the second. Does not return: its
    maker waits, and there is nothing to tidy up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "wb") as answers, contextlib.suppress(BrokenPipeError, EOFError):
        os.dup2(2, 1)  # whatever else prints here does not answer
        main(sys.stdin.buffer, answers)
    os._exit(0)
