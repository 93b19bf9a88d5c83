"""Another process that opens chunks and writes files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

import msgspec

from relit.errors import RelitError, VolumeDamaged, VolumeError
from relit.lib.pages import Trail
from relit.manifest import Skipped
from relit.volumes.beneath import Beneath
from relit.volumes.fetched import Fetched, Opens, Part
from relit.volumes.keys import Keys, ids_of
from relit.volumes.pack import Sealer
from relit.volumes.peer import Peer, receive, run, send
from relit.volumes.writing import Laid, Piece, write_pieces


class _Hello(msgspec.Struct, array_like=True):
    """``key``: as ``Keys.export`` gives it, if packs are encrypted."""

    root: bytes
    key: str | None


class _Ask(msgspec.Struct, array_like=True):
    """``last``: let go of all files."""

    pieces: list[Piece] = []
    parts: list[Part] = []
    last: bool = False


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
        self._peer = Peer(__name__, "files were not laid down")
        try:
            self._asked(_Hello(os.fsencode(root), keys.export() if keys is not None else None))
        except BaseException:
            self.close()
            raise

    def do(self, pieces: Sequence[Piece], fetched: Opens) -> Laid:
        """Have these written. Blocking. Raises what went wrong there."""
        return self._asked(_Ask(list(pieces), list(fetched.parts)))

    def finish(self) -> None:
        """Have it let go of files."""
        self._asked(_Ask(last=True))

    def _asked(self, message: _Hello | _Ask) -> Laid:
        answer = self._peer.asked(message, _Answer)
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
        self._peer.close()


def _answered(root: Beneath, ask: _Ask, fetched: Opens, trail: Trail) -> _Answer:
    try:
        if ask.last:
            trail.finish()
        return _Answer(*write_pieces(root, ask.pieces, fetched.open(), trail=trail))
    except VolumeDamaged as error:
        return _Answer(damaged=(error.what, error.why, error.fix))
    except RelitError as error:
        return _Answer(refused=(error.what, error.why, error.fix))
    except OSError as error:
        return _Answer(failed=(error.errno or 0, error.strerror or str(error), str(error.filename or "")))


def main(source: IO[bytes], to: IO[bytes]) -> None:
    """Do what is asked until the input ends."""
    try:
        hello = receive(source, _Hello)
    except EOFError:
        return
    keys = Keys.parse(hello.key) if hello.key is not None else None
    sealer, trail = cache(lambda pack: Sealer(pack, keys)), Trail()
    with Beneath(Path(os.fsdecode(hello.root))) as root:
        send(to, _Answer())
        while True:
            try:
                ask = receive(source, _Ask)
            except EOFError:
                return
            send(to, _answered(root, ask, Fetched(ask.parts, sealer, ids_of(keys)), trail))


if __name__ == "__main__":
    run(main)
