"""Another process that seals chunks. Contents and records pass through memory that both have."""

from __future__ import annotations

import logging
import mmap
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import IO

import msgspec

from relit.errors import VolumeError
from relit.volumes.keys import Keys
from relit.volumes.pack import CHUNK, Data, Sealer, room
from relit.volumes.peer import Peer, receive, run, send, worthwhile
from relit.volumes.writing import write_all

log = logging.getLogger("relit.volumes")
ROOM = 9 << 20  # bytes of contents, or of their records, at a time
_WORTH = 3 << 20  # bytes that are put at once by those who have many
_FEW = 8  # records that are made here at once
_SLOTS = 2  # one is filled or emptied while the other is worked on


class _Hello(msgspec.Struct, array_like=True):
    """``key``: as ``Keys.export`` gives it, if packs are encrypted. ``memory``: a descriptor."""

    key: str | None
    memory: int


class _Ask(msgspec.Struct, array_like=True):
    """Seal what lies in a slot's first half, counted from ``first``: records go into the second one."""

    pack: str
    first: int
    slot: int
    lengths: list[int]


class _Answer(msgspec.Struct, array_like=True):
    lengths: list[int] = []


class Sealed:
    """``records``, one after the other, and their ``lengths``. They lie in memory that is lent: ``close``."""

    def __init__(self, records: memoryview, lengths: list[int], slot: int, free: queue.SimpleQueue[int]) -> None:
        self.records = records
        self.lengths = lengths
        self._slot = slot
        self._free = free

    def close(self) -> None:
        """Give the memory back. Once."""
        self.records.release()
        self._free.put(self._slot)


class SealingHelper:
    """Made, it is ready. VolumeError, OSError: it cannot be. Thread-safe."""

    def __init__(self, keys: Keys | None) -> None:
        self._turn = threading.Lock()
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._fd = os.memfd_create("relit-sealing")
        try:
            os.ftruncate(self._fd, 2 * _SLOTS * ROOM)
            self._memory = memoryview(mmap.mmap(self._fd, 2 * _SLOTS * ROOM))
            self._peer = Peer(__name__, "chunks were not sealed", [self._fd])
        except BaseException:
            os.close(self._fd)
            raise
        try:
            self._peer.asked(_Hello(keys.export() if keys is not None else None, self._fd), _Answer)
        except BaseException:
            self._end()
            raise
        for slot in range(_SLOTS):
            self._free.put(slot)

    def seal(self, pack: str, first: int, contents: Sequence[Data]) -> Sealed | None:
        """Records of these chunks, which have no more than ``ROOM`` together; ``None``: too many ask at once, or it was
        closed. VolumeError: it has ended."""
        try:
            slot = self._free.get_nowait()
        except queue.Empty:
            return None
        try:
            assert sum(map(len, contents)) <= ROOM
            write_all(self._fd, contents, 2 * slot * ROOM)  # other threads go on meanwhile
            with self._turn:
                answer = self._peer.asked(_Ask(pack, first, slot, [len(each) for each in contents]), _Answer)
        except BaseException:
            self._free.put(slot)
            raise
        start = (2 * slot + 1) * ROOM
        return Sealed(self._memory[start : start + sum(answer.lengths)], answer.lengths, slot, self._free)

    def close(self) -> None:
        """Let it end when nobody is inside, and all memory is given back. Safe twice."""
        if self._fd >= 0:
            for _ in range(_SLOTS):
                self._free.get()
            self._end()

    def _end(self) -> None:
        self._peer.close()
        os.close(self._fd)
        self._fd = -1


class Sealing:
    """Has a helper when there is much to seal, from when it is ready until nobody wants it any more. Thread-safe."""

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self._wanted = 0
        self._starting: threading.Thread | None = None
        self._made: SealingHelper | None = None
        self._helper: SealingHelper | None = None  # what was made, as long as it works

    @contextmanager
    def wanted(self, size: int) -> Iterator[None]:
        """Somebody may be about to have so many bytes sealed: with the first of them a helper is started."""
        if not worthwhile(size):
            yield
            return
        with self._lock:
            self._wanted += 1
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= 1
                if not self._wanted:
                    self._stop()

    def _begin(self) -> None:
        with self._lock:
            if self._wanted and self._starting is None:
                starting = threading.Thread(target=self._start, name="relit-sealing", daemon=True)
                try:
                    starting.start()
                except RuntimeError as error:  # there are too many
                    log.warning("no second process helps to seal: %s", error)
                else:
                    self._starting = starting

    def _start(self) -> None:
        try:
            self._made = self._helper = SealingHelper(self._keys)
        except (VolumeError, OSError) as error:
            log.warning("no second process helps to seal: %s", _why(error))

    def _stop(self) -> None:
        if self._starting is not None:
            self._starting.join()
        made, self._made, self._helper, self._starting = self._made, None, None, None
        if made is not None:
            made.close()

    def seal(self, pack: str, first: int, contents: Sequence[Data]) -> Sealed | None:
        """By the helper; ``None``: by whoever asks. It may have ended: the same again makes the same records."""
        helper = self._helper
        if helper is None and room(contents) >= _WORTH:
            self._begin()
        if helper is None or len(contents) < _FEW or room(contents) > ROOM:
            return None
        try:
            return helper.seal(pack, first, contents)
        except (VolumeError, OSError) as error:
            log.warning("no second process helps to seal any more: %s", _why(error))
            with self._lock:
                if self._helper is helper:
                    self._helper = None
            return None

    def close(self) -> None:
        """End the helper. Safe twice."""
        with self._lock:
            self._stop()


def _why(error: VolumeError | OSError) -> str:
    """What there is to know of an error after which the work goes on."""
    return error.why if isinstance(error, VolumeError) else str(error)


def main(source: IO[bytes], to: IO[bytes]) -> None:
    """Do what is asked until the input ends."""
    hello = receive(source, _Hello)
    keys = Keys.parse(hello.key) if hello.key is not None else None
    memory = memoryview(mmap.mmap(hello.memory, 2 * _SLOTS * ROOM))
    sealer = cache(lambda pack: Sealer(pack, keys))
    send(to, _Answer())
    while True:
        ask = receive(source, _Ask)
        at, contents = 2 * ask.slot * ROOM, list[Data]()
        for length in ask.lengths:
            contents.append(memory[at : at + length])
            at += length
        records = sealer(ask.pack).seal_all(CHUNK, ask.first, contents)
        write_all(hello.memory, records, (2 * ask.slot + 1) * ROOM)
        send(to, _Answer([len(each) for each in records]))


if __name__ == "__main__":
    run(main)
