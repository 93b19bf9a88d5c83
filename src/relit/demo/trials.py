"""What was done to real agents, what became of it, and whether that is what must. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from relit.demo.recovery import Recovery

Blow = Literal["killed in a turn", "configuration emptied, killed", "database overwritten, killed"]
WANTED: dict[Blow, tuple[int, str]] = {  # the rung, and what relit must have done at last
    "killed in a turn": (1, "started again"),
    "configuration emptied, killed": (3, "put its configuration back"),
    "database overwritten, killed": (3, "put its whole home back"),
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
        rung, did = WANTED[self.blow]
        went = self.recovery
        return went is not None and self.answered_ms is not None and went.rung == rung and last(went).startswith(did)


def last(went: Recovery) -> str:
    """What relit did about it at last."""
    return went.did[-1][0] if went.did else "started again"


def sentence(trial: Trial) -> str:
    """What became of it."""
    went = trial.recovery
    if went is None:
        return f"{trial.agent}, {trial.blow}: it did not come back"
    found = f"seen after {went.found_ms} ms, ready after {_seconds(went.back_ms)}"
    answered = "no answer" if trial.answered_ms is None else f"answered after {_seconds(trial.answered_ms)}"
    return f"{trial.agent}, {trial.blow}: {found} (rung {went.rung}: {last(went)}), {answered}"


def cells(trial: Trial) -> list[str]:
    """A row of the table: agent, blow, found, rung, what was done, ready, answered."""
    went = trial.recovery
    if went is None:
        return [trial.agent, trial.blow, "", "", "it did not come back", "", ""]
    answered = "never" if trial.answered_ms is None else _seconds(trial.answered_ms)
    found = f"{went.found_ms} ms"
    return [trial.agent, trial.blow, found, str(went.rung), last(went), _seconds(went.back_ms), answered]


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.1f} s"
