"""Matching a workflow's calls with its journal: pure, no clock, no I/O.

A workflow is run again from its start; each call that the journal knows gets its recorded answer. The journal is
consumed as it is matched, so what is left when the workflow returns is history that the code no longer asks for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from relit.errors import JournalMismatch
from relit.store.values import Effect, Journal, Step, Wait

_WAIT_KINDS = {
    "sleep": ("timer",),
    "signal": ("signal",),
    "child": ("child",),
    "step": ("retry",),
    "effect": ("retry",),
    "send": ("retry",),
}
_NO_CALLS = frozenset({"patch", "forgotten", "superseded"})


class Replay:
    """One run's journal, as far as it has not been asked for yet."""

    def __init__(self, journal: Journal) -> None:
        self.steps = {step.pos: step for step in journal.steps if step.kind not in _NO_CALLS}
        self.waits = {wait.pos: wait for wait in journal.waits}
        self.effects = {effect.pos: effect for effect in journal.effects if "@" not in effect.pos}
        self._adrift = [effect for effect in journal.effects if "@" in effect.pos]
        self.marks = {step.name for step in journal.steps if step.kind == "patch"}
        self.last_seq = journal.steps[-1].seq if journal.steps else 0
        self._decided: dict[str, bool] = {}
        self._furthest: dict[str, int] | None = None
        self._journal = journal

    def match(self, pos: str, kind: str, name: str, hash: bytes) -> Step | None:
        """The recorded step at ``pos``, or ``None`` when the run has not come that far."""
        step = self.steps.pop(pos, None)
        if step is None:
            if pos in self.waits or pos in self.effects:
                self._check_open(pos, kind, name, hash)
            return None
        if step.hash == hash and step.name == name and step.kind == kind:
            return step
        raise mismatch(pos, _side(step.kind, step.name, step.hash), _side(kind, name, hash))

    def _check_open(self, pos: str, kind: str, name: str, hash: bytes) -> None:
        wait, effect = self.waits.get(pos), self.effects.get(pos)
        if effect is not None and (kind != "effect" or effect.name != name or effect.hash != hash):
            raise mismatch(pos, _side("effect", effect.name, effect.hash), _side(kind, name, hash))
        if wait is None:
            return
        same_name = wait.kind == "timer" or not wait.name or wait.name == name or wait.kind == "child"
        if wait.kind not in _WAIT_KINDS.get(kind, ()) or not same_name:
            raise mismatch(pos, _side(f"wait for {wait.kind}", wait.name, b""), _side(kind, name, hash))

    def wait(self, pos: str) -> Wait | None:
        """What the run waited for at ``pos``."""
        return self.waits.pop(pos, None)

    def effect(self, pos: str) -> Effect | None:
        """The effect without a receipt at ``pos``."""
        return self.effects.pop(pos, None)

    def adrift(self, name: str, hash: bytes) -> Effect | None:
        """The first effect with that name and input that was begun before the journal went back. Each counts once."""
        for effect in self._adrift:
            if (effect.name, effect.hash) == (name, hash):
                self._adrift.remove(effect)
                return effect
        return None

    def patched(self, id: str, scope: str, count: int, inside: list[tuple[str, int]]) -> bool:
        """Whether the code after the patch ``id`` is to run: new runs and those that have not come this far do.

        ``count`` calls were made in ``scope``; ``inside`` lists the enclosing scopes with their counts.
        """
        if id in self._decided:
            return self._decided[id]
        answer = id in self.marks or not any(self._beyond(name, n) for name, n in [(scope, count), *inside])
        self._decided[id] = answer
        return answer

    def _beyond(self, scope: str, count: int) -> bool:
        if self._furthest is None:
            self._furthest = furthest(self._journal)
        return self._furthest.get(scope, 0) > count

    def leftover(self) -> str | None:
        """The first recorded thing that the workflow never asked for, described."""
        if self.steps:
            step = min(self.steps.values(), key=lambda each: each.seq)
            return f"{_side(step.kind, step.name, step.hash)} at {step.pos}"
        for wait in self.waits.values():
            return f"a wait for {wait.kind} {wait.name} at {wait.pos}".replace("  ", " ")
        for effect in self.effects.values():
            return f"effect {effect.name} at {effect.pos}"
        return None


def furthest(journal: Journal) -> dict[str, int]:
    """For each scope the highest place in it that has history, be it in a branch below that place."""
    found: dict[str, int] = {}
    positions = itertools.chain(
        (step.pos for step in journal.steps),
        (wait.pos for wait in journal.waits),
        (effect.pos for effect in journal.effects if "@" not in effect.pos),
    )
    for pos in positions:
        for scope, place in places(pos):
            if place > found.get(scope, 0):
                found[scope] = place
    return found


def places(pos: str) -> Iterator[tuple[str, int]]:
    """The scopes that ``pos`` lies in, outermost first, with its place in each: ``2/0.1`` → ("", 2), ("2/0", 1)."""
    scope = ""
    for part in pos.split("."):
        head = part.partition("/")[0]
        if head.isdigit():
            yield scope, int(head)
        scope = f"{scope}.{part}" if scope else part


def _side(kind: str, name: str, hash: bytes) -> str:
    shown = f"{kind} {name!r}" if name else kind
    return f"{shown} (input {hash.hex()})" if hash else shown


def mismatch(pos: str, recorded: str, found: str) -> JournalMismatch:
    """The error that shows both sides."""
    return JournalMismatch(
        f"the workflow's code no longer matches its journal at position {pos}",
        recorded=recorded,
        found=found,
        fix='put the old code back, guard the change with `if ctx.patched("NAME"):`, '
        "or `relit fork RUN --step N` from a step before the change",
    )
