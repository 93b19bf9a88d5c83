"""What was done to real agents, what became of it, and whether that is what must. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from relit.demo.recovery import Recovery

Blow = Literal["killed in a turn", "config emptied + kill", "database ruined + kill"]
WANTED: dict[Blow, str] = {  # what relit must have done about it at last
    "killed in a turn": "restart",
    "config emptied + kill": "config",
    "database ruined + kill": "volume",
}


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One blow at one agent. ``recovery`` is ``None`` when it did not come back. ``answered_ms``, since the blow: its
    answer came, and was the right one."""

    agent: str
    blow: Blow
    recovery: Recovery | None = None
    answered_ms: int | None = None

    @property
    def passed(self) -> bool:
        """Whether it is well again, and by what was to be done about it."""
        went = self.recovery
        return went is not None and self.answered_ms is not None and went.action == WANTED[self.blow]


def sentence(trial: Trial) -> str:
    """What became of it."""
    went = trial.recovery
    if went is None:
        return f"{trial.agent}, {trial.blow}: it did not come back"
    found = f"seen after {went.found_ms} ms, ready after {_seconds(went.back_ms)}"
    answered = "no answer" if trial.answered_ms is None else f"answered after {_seconds(trial.answered_ms)}"
    return f"{trial.agent}, {trial.blow}: {found} (rung {went.rung}: {went.words}), {answered}"


def cells(trial: Trial) -> list[str]:
    """A row of the table: agent, blow, seen, healed by, ready, answered."""
    went = trial.recovery
    if went is None:
        return [trial.agent, trial.blow, "never", "", "never", ""]
    answered = "never" if trial.answered_ms is None else _seconds(trial.answered_ms)
    healed = f"rung {went.rung}: {went.action}"
    return [trial.agent, trial.blow, f"{went.found_ms} ms", healed, _seconds(went.back_ms), answered]


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.1f} s"
