"""Which paths of a home may differ from what is known of it. What was found stays due until a snapshot has it."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from relit.lib.clock import Clock
from relit.manifest import Skipped
from relit.volumes.base import Changes, Watch
from relit.volumes.beneath import Beneath
from relit.volumes.ignore import BYTES, NAME, Ignore, Rules
from relit.volumes.look import Looked, sweep, touched
from relit.volumes.scan import READ, UNREADABLE, Home
from relit.volumes.tree import View
from relit.volumes.unwritten import Unwritten

SWEEP_MS = 15 * 60_000
_TICK_MS = 50  # a file touched this shortly before it was read may change once more without a trace
_LIGHT = 200  # paths
_TOLD = 1000  # skipped paths


class Due(msgspec.Struct, frozen=True):
    """What is to be looked at; ``sweeps``: every path. ``inodes``: of all files that any process had mapped at
    ``mapped_ms`` or later; ``None``: not all were asked."""

    changes: Changes
    sweeps: bool
    at_ms: int
    swept_ms: int | None  # when that was done last
    inodes: frozenset[int] = frozenset()
    mapped_ms: int | None = None

    @property
    def light(self) -> bool:
        """Whether that takes a millisecond or so."""
        few = len(self.changes.paths) + len(self.changes.closed) < _LIGHT
        return few and not (self.sweeps or self.changes.trees)


class Lookout:
    """One home and its watch. ``early`` while the agent goes on, then ``late`` while it stands still, each followed by
    ``look``; ``done`` when a snapshot has what they found. Blocking, one call at a time."""

    def __init__(self, home: Path, watch: Watch, patterns: Sequence[str], clock: Clock) -> None:
        self._home = home
        self._watch = watch
        self._patterns = tuple(patterns)
        self._clock = clock
        self._due: set[bytes] = set()
        self._skipped: dict[bytes, Skipped] = {}
        self._closed: set[bytes] = set()  # could not be read: nobody knows what happens there
        self._swept_ms: int | None = None
        self._settled_ns = 0
        self._ignored = b""
        self._rules = Rules(self._patterns)
        self._unwritten = Unwritten()

    @property
    def exact(self) -> bool:
        """Whether events tell what was touched, so that looking again costs nothing."""
        return self._watch.exact

    def since(self, began_ms: int) -> None:
        """What is known is of a snapshot whose files an earlier process read from then on."""
        self._settled_ns = (began_ms - _TICK_MS) * 1_000_000

    @contextmanager
    def opened(self) -> Iterator[Home]:
        """The home, for one pass."""
        with Beneath(self._home) as beneath:
            text = _ignored(beneath, self._ignored)
            if text != self._ignored:
                self._ignored, self._rules, self._swept_ms = text, Rules(self._patterns, text), None
            home = Home(beneath, Ignore(self._rules))
            yield home
            self._skipped |= home.skipped
            self._closed |= home.closed

    def early(self, recent_s: float = 0.0, only: Collection[bytes] | None = None) -> Due:
        """What may differ from the newest snapshot by now. ``recent_s``: what is mapped may be told as it was that
        long ago. ``only``: where no events tell, look at these instead of sweeping: somebody who knows says so."""
        late = self._swept_ms is None or self._clock.now_ms() - self._swept_ms >= SWEEP_MS
        again, closed = self._due | self._skipped.keys(), frozenset(self._closed)  # why it was skipped may be over
        self._skipped.clear()
        self._closed.clear()
        if only is None or late or self._watch.exact:
            return self._gather(again, closed, sweeps=late, recent_s=recent_s)
        mapped = self._watch.mapped(recent_s)
        return Due(  # as of the last sweep: what was not looked at since is known from then
            Changes(mapped.union(only, again), closed),
            sweeps=False,
            at_ms=self._swept_ms or 0,
            swept_ms=self._swept_ms,
        )

    def late(self, pids: Collection[int] | None) -> Due:
        """What may differ from what the early pass saw. ``pids``: the processes that stand still, if that is known:
        what others map is of no moment, and is looked at again by the next early pass."""
        return self._gather(frozenset(), sweeps=False, pids=pids)

    def _gather(
        self,
        more: Collection[bytes],
        trees: Collection[bytes] = (),
        *,
        sweeps: bool,
        recent_s: float = 0.0,
        pids: Collection[int] | None = None,
    ) -> Due:
        now, swept_ms = self._clock.now_ms(), self._swept_ms
        self._swept_ms = None  # until it was looked at: events are told once
        changes, mapped = self._watch.drain(), self._watch.mapped(recent_s, pids)
        paths = changes.paths.union(mapped, more)
        return Due(
            Changes(paths, changes.trees.union(trees), closed=changes.closed - paths),
            sweeps=sweeps or changes.everything or not self._watch.exact,
            at_ms=now,
            swept_ms=swept_ms,
            inodes=self._watch.mapped_inodes() if pids is None else frozenset(),
            mapped_ms=now - round(recent_s * 1000) if pids is None else None,
        )

    def look(self, home: Home, known: View, due: Due) -> Looked:
        """All of it that may differ from what is known."""
        self._unwritten.mapped(due.inodes)
        unwritten = self._unwritten.among(home, known, due.changes.closed)
        looked = touched(home, known, due.changes, unwritten)
        if due.sweeps:
            looked = sweep(home, known, self._settled_ns) | looked
        if due.mapped_ms is not None:
            self._unwritten.read(looked, due.inodes, (due.mapped_ms - _TICK_MS) * 1_000_000)
        self._swept_ms = due.at_ms if due.sweeps else due.swept_ms
        self._settled_ns = (due.at_ms - _TICK_MS) * 1_000_000
        self._due |= looked.keys()
        for path in looked:
            self._skipped.pop(path, None)
        self._skipped |= home.skipped
        return looked

    def done(self, but: Collection[bytes] = ()) -> None:
        """All that was found is in a snapshot, or no change, except these paths."""
        self._due = set(but)

    def skipped(self) -> list[Skipped]:
        """What the snapshot leaves out, in byte order; and what of the rules for that counts for nothing."""
        faults = [Skipped(NAME, why) for why in self._rules.faults]
        some = sorted([*faults, *self._skipped.values()], key=lambda each: each.path)
        more = [Skipped(b"", f"and {len(some) - _TOLD} more")] if len(some) > _TOLD else []
        return some[:_TOLD] + more

    def close(self) -> None:
        """Watch no longer."""
        self._watch.close()


def _ignored(beneath: Beneath, before: bytes) -> bytes:
    """The text of ``.relitignore``, or enough of it to see that it is too long; empty when there is none, or it is no
    file. While it cannot be read it says what it said ``before``."""
    try:
        fd = beneath.open(NAME, READ)
        try:
            return os.pread(fd, BYTES + 1, 0) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        finally:
            os.close(fd)
    except OSError as error:
        return before if error.errno in UNREADABLE else b""
