"""Another process that opens chunks and writes files: two processes do not wait for one interpreter's lock.

It is asked over its standard input and answers on its standard output, in frames: eight bytes of length, msgpack. It
knows the key and the folder, and ends when its input does: a helper whose maker was killed writes no further file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from relit.errors import RelitError, VolumeDamaged, VolumeError
from relit.manifest import Skipped
from relit.volumes.beneath import Beneath
from relit.volumes.fetched import Fetched, Opens, Part
from relit.volumes.keys import Keys, ids_of
from relit.volumes.pack import Sealer
from relit.volumes.writing import Laid, Piece, write_pieces

_LENGTH = struct.Struct("<Q")
_GRACE_S = 5.0
T = TypeVar("T")


class _Hello(msgspec.Struct, array_like=True):
    """``key``: as ``Keys.export`` gives it, if packs are encrypted."""

    root: bytes
    key: str | None


class _Ask(msgspec.Struct, array_like=True):
    pieces: list[Piece]
    parts: list[Part]


class _Answer(msgspec.Struct, array_like=True):
    """``damaged``, ``refused`` and ``failed``: what VolumeDamaged, another RelitError, and OSError say."""

    written: int = 0
    skipped: list[Skipped] = []
    damaged: tuple[str, str, str] | None = None
    refused: tuple[str, str, str] | None = None
    failed: tuple[int, str, str] | None = None


class Helper:
    """``hand`` of a ``Layer``: files below ``root``. Made, it is ready. VolumeError, OSError: it cannot be."""

    def __init__(self, root: Path, keys: Keys | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for its maker, which brings to an end what it has begun
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        try:
            self._asked(_Hello(os.fsencode(root), keys.export() if keys is not None else None))
        except BaseException:
            self.close()
            raise

    def do(self, pieces: Sequence[Piece], fetched: Opens) -> Laid:
        """Have these written. Blocking. Raises what went wrong there."""
        return self._asked(_Ask(list(pieces), list(fetched.parts)))

    def _asked(self, message: _Hello | _Ask) -> Laid:
        try:
            _send(self._to, message)
            answer = _receive(self._from, _Answer)
        except (BrokenPipeError, EOFError, msgspec.MsgspecError) as error:
            raise VolumeError(
                "files were not laid down",
                why=f"the process that should have written them ended with {self._ended()}",
                fix="try again; agents/volumes/log/out.log of the data folder has what it said",
            ) from error
        if answer.damaged is not None:
            what, why, fix = answer.damaged
            raise VolumeDamaged(what, why=why, fix=fix)
        if answer.refused is not None:
            what, why, fix = answer.refused
            raise VolumeError(what, why=why, fix=fix)
        if answer.failed is not None:
            raise OSError(*answer.failed)
        return answer.written, answer.skipped

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
            return self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _send(to: IO[bytes], message: msgspec.Struct) -> None:
    data = msgspec.msgpack.encode(message)
    to.write(_LENGTH.pack(len(data)))
    to.write(data)
    to.flush()


def _receive(source: IO[bytes], kind: type[T]) -> T:
    length = source.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        raise EOFError
    data = source.read(_LENGTH.unpack(length)[0])
    if len(data) < _LENGTH.unpack(length)[0]:
        raise EOFError
    return msgspec.msgpack.decode(data, type=kind)


def _answered(root: Beneath, ask: _Ask, fetched: Opens) -> _Answer:
    try:
        return _Answer(*write_pieces(root, ask.pieces, fetched.open()))
    except VolumeDamaged as error:
        return _Answer(damaged=(error.what, error.why, error.fix))
    except RelitError as error:
        return _Answer(refused=(error.what, error.why, error.fix))
    except OSError as error:
        return _Answer(failed=(error.errno or 0, error.strerror or str(error), str(error.filename or "")))


def main(source: IO[bytes], to: IO[bytes]) -> None:
    """Do what is asked until the input ends."""
    try:
        hello = _receive(source, _Hello)
    except EOFError:
        return
    keys = Keys.parse(hello.key) if hello.key is not None else None
    sealer = cache(lambda pack: Sealer(pack, keys))
    with Beneath(Path(os.fsdecode(hello.root))) as root:
        _send(to, _Answer())
        while True:
            try:
                ask = _receive(source, _Ask)
            except EOFError:
                return
            _send(to, _answered(root, ask, Fetched(ask.parts, sealer, ids_of(keys))))


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever else prints here does not answer
        main(sys.stdin.buffer, answers)
