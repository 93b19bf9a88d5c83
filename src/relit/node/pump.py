"""Brings what one instance writes into its log: read, redacted, stamped, written, recorded, freed. Blocking.

Nothing is remembered between steps that is not on the disk, but for how long a last line has waited. The order is what
makes it safe to be killed: first the lines, then the record that they are there, then their disk is given back.
"""

from __future__ import annotations

import contextlib
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from relit.lib.clock import Clock, iso
from relit.lib.durations import size
from relit.node import rawlog
from relit.node.lines import Last, Taken, stamped, take
from relit.node.outlog import OutLog, Place, load, record_of, rotate, save
from relit.node.patterns import KEY_MOST, KEY_RUN
from relit.node.rawlog import Punch, RawLog
from relit.node.redact import Redactor

READ = 256 << 10  # bytes at a time
LATE_S = 1.0  # a last line waits so long for its end
ENDED_S = 10.0  # and so long if it may be the beginning of a secret
_FREE = 64 << 10  # bytes that are worth a call
_EMPTY, _EMPTY_UNFREED = 16 << 20, 64 << 10  # sizes from which a raw log that was read is made empty


class Sizes(NamedTuple):
    """``limit`` bytes in ``out.log`` and in each of ``keep`` older ones; a backlog of ``most`` is not read whole."""

    limit: int
    keep: int
    most: int


class Progress(NamedTuple):
    """``read``: up to there the raw log is in ``out.log``. ``more`` is there at once; else look again at ``due``."""

    read: int = 0
    more: bool = False
    due: float | None = None
    trouble: str = ""


class _Partial(NamedTuple):
    start: int
    since: float


class Pump:
    """One instance's."""

    def __init__(
        self, raw: Path, out: Path, redactor: Redactor, *, clock: Clock, sizes: Sizes, punch: Punch = rawlog.punch
    ) -> None:
        self.raw = raw
        self.out = out
        self._redactor = redactor
        self._clock = clock
        self._sizes = sizes
        self._punch = punch
        self._record = record_of(raw)
        self._partial: _Partial | None = None
        self._seen = (-1, 0)  # size and time of the raw log when all of it had been read
        self._freed = ("", 0)  # which raw log, and up to where it was freed
        self._frees = True  # this filesystem can

    def prepare(self) -> None:
        """Before the instance starts. What cannot be done now is done by the first step."""
        with contextlib.suppress(OSError):
            self.out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            rawlog.make(self.raw)
            with closing(RawLog(self.raw)) as raw:
                self._placed(raw)  # one that was made empty is known by its size, as long as nobody writes to it

    def length(self) -> int:
        """How much the instance has written."""
        try:
            return self.raw.stat().st_size
        except OSError:
            return 0

    def idle(self) -> bool:
        """Whether nothing came since all was read. A large raw log is made empty then, if nobody has it open."""
        try:
            found = self.raw.stat()
            if self._seen != (found.st_size, found.st_mtime_ns):
                return False
            if found.st_size >= (_EMPTY if self._frees else _EMPTY_UNFREED):
                self._empty()
        except OSError:  # it is not there, or not now
            pass
        return True

    def step(self, last: Last = "waits") -> Progress:
        """Read once, and see to it that what was read is kept. ``last``: at least that holds of a last line."""
        try:
            with closing(RawLog(self.raw, self._punch)) as raw:
                return self._step(raw, last)
        except FileNotFoundError as error:
            return Progress(trouble="" if error.filename == str(self.raw) else str(error))
        except OSError as error:
            return Progress(trouble=str(error))

    def _empty(self) -> None:
        with closing(RawLog(self.raw, self._punch)) as raw:
            place = self._placed(raw)
            if place.read == raw.size and raw.empty(raw.size):
                self._freed = ("", 0)
                self._noted(msgspec.structs.replace(place, read=0))

    # --- a step ------------------------------------------------------------------------------------------------

    def _step(self, raw: RawLog, last: Last) -> Progress:
        place = self._placed(raw)
        if raw.size - place.read > self._sizes.most:
            place = self._skip(raw, place)
        stamp = iso(self._clock.now_ms())
        data = raw.read(place.read, READ)
        more, end = len(data) == READ, place.read + len(data)
        if not more and last == "waits":
            last = self._patience(place.read + data.rfind(b"\n") + 1, end)
        taken = take(data, self._redactor, "waits" if more else last, place.inside)
        if taken.length:
            place = self._write(place, taken, stamp)
            place = self._free(raw, place)
        self._seen = (raw.size, raw.changed) if place.read == raw.size else (-1, 0)
        return Progress(place.read, more, None if more else self._due(place.read, end))

    def _placed(self, raw: RawLog) -> Place:
        """Where to go on."""
        known = load(self._record)
        place = known
        if place is None:
            length = self.out.stat().st_size if self.out.exists() else 0
            place = Place(file=raw.file, read=raw.begins(), wrote=length)
        elif place.file != raw.file or place.read > raw.size:
            place = Place(file=raw.file, read=raw.begins(), wrote=place.wrote)
        if place != known:
            save(self._record, place)
        return place

    def _write(self, place: Place, taken: Taken, stamp: str) -> Place:
        """Its lines, and then the record of them."""
        if place.wrote >= self._sizes.limit:
            rotate(self.out, self._sizes.keep)
            place = self._noted(msgspec.structs.replace(place, wrote=0))
        text = stamped(taken.text, stamp)
        with closing(OutLog(self.out)) as out:
            length = out.settle(place.wrote)
            if length != place.wrote:
                place = self._noted(msgspec.structs.replace(place, wrote=length))
            out.write(text, length)
        return self._noted(
            msgspec.structs.replace(
                place, read=place.read + taken.length, wrote=length + len(text), inside=taken.inside
            )
        )

    def _noted(self, place: Place) -> Place:
        save(self._record, place)
        return place

    def _say(self, place: Place, text: str, length: int = 0, inside: int = 0) -> Place:
        """A line of our own, which stands for ``length`` bytes."""
        return self._write(place, Taken(length, f"[relit] {text}\n".encode(), inside), iso(self._clock.now_ms()))

    def _free(self, raw: RawLog, place: Place) -> Place:
        start = self._freed[1] if self._freed[0] == raw.file else 0
        if not self._frees or place.read - start < _FREE:
            return place
        self._frees = raw.free(start, place.read)
        self._freed = (raw.file, place.read)
        if self._frees:
            return place
        why = f"this filesystem cannot give back what was read: {self.raw.name} grows until its writers have ended"
        return self._say(place, why, inside=place.inside)

    def _skip(self, raw: RawLog, place: Place) -> Place:
        """Too much came: go on with the newest part of it, at the beginning of a line."""
        start = raw.size - self._sizes.most // 4
        ahead = raw.read(start, READ)
        start += ahead.find(b"\n") + 1 or len(ahead)
        length = start - place.read
        inside = KEY_MOST if KEY_RUN.match(raw.read(start, 64)) else 0
        most = size(self._sizes.most)
        place = self._say(
            place, f"skipped {length} bytes: more than {most} came before they could be read", length, inside
        )
        return self._free(raw, place)

    # --- a last line without its end ---------------------------------------------------------------------------

    def _patience(self, start: int, end: int) -> Last:
        """Whether what begins at ``start`` is still waited for."""
        age = self._age(start, end)
        return "waits" if age < LATE_S else "late" if age < ENDED_S else "ended"

    def _age(self, start: int, end: int) -> float:
        now = self._clock.monotonic()
        if start == end:
            self._partial = None
        elif self._partial is None or self._partial.start != start:
            self._partial = _Partial(start, now)
        return 0.0 if self._partial is None else now - self._partial.since

    def _due(self, start: int, end: int) -> float | None:
        """When what is left has waited for long enough."""
        age = self._age(start, end)
        if self._partial is None:
            return None
        return self._partial.since + (LATE_S if age < LATE_S else ENDED_S)
