"""The storm's figures, the bounds they must keep, and the table of both. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from statistics import median

import msgspec

from relit.demo.plan import Role
from relit.demo.witness import Line


class Blow(msgspec.Struct, frozen=True):
    """One process killed at ``at`` (monotonic seconds), and when what it did went on. None: it was doing nothing.

    ``run``: what a worker was executing.
    """

    at: float
    role: Role
    pid: int
    resumed: float | None
    run: str | None = None

    @property
    def seconds(self) -> float | None:
        """From the kill to work resumed."""
        return None if self.resumed is None else self.resumed - self.at


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted."""

    sent: int  # messages that were acknowledged
    completed: int
    wrong: int  # verdicts that are not what the licence texts say
    steps: int  # journal steps
    blows: list[Blow]
    steps_again: int  # bodies begun once more
    bought_twice: int
    findings: int
    delivered: int  # findings that took effect at the sink
    delivered_twice: int
    raw_requests: int
    seconds: float

    @property
    def kills(self) -> int:
        return len(self.blows)


Told = Callable[[Blow], None]


class Row(msgspec.Struct, frozen=True):
    """One line of the table. ``kept`` is None where there is no bound."""

    label: str
    value: str
    bound: str = ""
    kept: bool | None = None


def begun_again(lines: Iterable[Line]) -> int:
    """How many step bodies began although they had begun before. Effects are counted at the sink instead."""
    begins = Counter(line.place for line in lines if line.step != "notify")
    return sum(begins.values()) - len(begins)


def resumption(lines: Iterable[Line], pid: int, at: float) -> tuple[str | None, float | None]:
    """What ``pid`` began last before it was killed at ``at``, and when another process went on with it."""
    held: str | None = None
    for line in lines:
        subject = line.subject.split(" ")[0]
        if line.pid == pid and line.at <= at:
            held = subject
        elif line.at > at and subject == held:
            return held, line.at
    return held, None


def rows(figures: Figures) -> list[Row]:
    """The table, bounds included."""
    kills = figures.kills
    return [
        _exactly("audits completed", figures.completed, figures.sent),
        _exactly("wrong verdicts", figures.wrong, 0),
        Row("steps done", str(figures.steps)),
        Row("processes killed with SIGKILL", _by_role(figures.blows)),
        _at_most("steps run again", figures.steps_again, kills),
        _at_most("model calls bought twice", figures.bought_twice, kills),
        _exactly("findings notified", figures.delivered, figures.findings),
        Row("raw requests at the sink", str(figures.raw_requests)),
        _exactly("notifications delivered twice", figures.delivered_twice, 0),
        Row("from kill to work resumed", _times(figures.blows)),
        Row("duration", f"{figures.seconds:.0f} s"),
    ]


def kept(figures: Figures) -> bool:
    """Whether every bound was kept."""
    return all(row.kept is not False for row in rows(figures))


def _exactly(label: str, value: int, wanted: int) -> Row:
    return Row(label, str(value), f"= {wanted}", value == wanted)


def _at_most(label: str, value: int, most: int) -> Row:
    return Row(label, str(value), f"≤ {most}", value <= most)


def _by_role(blows: list[Blow]) -> str:
    counts = Counter(blow.role for blow in blows)
    return f"{len(blows)} ({', '.join(f'{role} {count}' for role, count in counts.most_common())})"


def _times(blows: list[Blow]) -> str:
    times = [blow.seconds for blow in blows if blow.seconds is not None]
    return f"median {median(times):.2f} s, longest {max(times):.2f} s" if times else "nothing was interrupted"
