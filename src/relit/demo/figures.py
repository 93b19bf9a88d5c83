"""The storm's figures, the bounds they must keep, and the table of both. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from statistics import median

import msgspec

from relit.demo.plan import Role
from relit.demo.witness import Line
from relit.lib.durations import size

_REPLAYED = 3  # two of the model's, one of the tool's
MADE_ROOM_S, WOKEN_S = 5, 15
HEALED_S, HEALED_RUNG = 10, 3  # what the ladder must need for a broken configuration


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


class Mishap(msgspec.Struct, frozen=True, kw_only=True):
    """The notes were deleted at ``at`` and the agent was put back to the snapshot of ``to`` (monotonic seconds).

    ``restored``: when the files were back and nothing of the agent ran.
    """

    at: float
    to: float
    restored: float
    seconds: float  # what the command took
    notes: int  # pages in that snapshot
    lost: int  # pages of it that are not as they were
    differing: int  # paths that differ between that snapshot and the home as it was put back

    def caused(self, first: float, second: float) -> bool:
        """Whether what began at ``first`` began again at ``second`` because of this."""
        return first < self.restored and second > self.at


class Breakdown(msgspec.Struct, frozen=True, kw_only=True):
    """The second agent's configuration was broken on disk, and its process killed."""

    found_ms: int  # from the kill until relit had seen it
    healed_s: float  # … until the agent was ready again
    rung: int
    as_before: bool  # its configuration, to the last byte
    kept: bool  # the broken one lies beside


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """The third agent was killed in a turn, after it had sent its message, while its model answered again."""

    bought: int  # calls that its model was asked
    replayed: int  # calls to model and tool that its next life was answered from the record
    arrived: int  # messages at their addressee
    answered: bool
    seconds: float  # from the kill to the answer


class Squeeze(msgspec.Struct, frozen=True, kw_only=True):
    """Memory became short while the third agent had nothing to do."""

    made_room_s: float  # from when it was short until that agent was gone
    answered: bool
    seconds: float  # from its next message to the answer


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of the agent's home."""

    snapshots: int
    freezes_ms: list[float]  # how long the agent stood still for each, where it ran
    packed: int  # bytes of all packs
    home: int  # bytes of the home at the end


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted. What began again because of the mishap is counted apart from what the kills cost."""

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
    notes: int  # audits of which the home's notes say what the run concluded
    versions: Kept
    mishap: Mishap | None  # None: nothing was killed either
    breakdown: Breakdown | None = None  # likewise
    errand: Errand | None = None  # likewise
    squeeze: Squeeze | None = None  # likewise
    steps_redone: int = 0
    redone_needlessly: int = 0  # steps among them that were done in the snapshot
    bought_again: int = 0
    seconds: float

    @property
    def kills(self) -> int:
        return len(self.blows)


class Row(msgspec.Struct, frozen=True):
    """One line of the table. ``kept`` is None where there is no bound."""

    label: str
    value: str
    bound: str = ""
    kept: bool | None = None


def repeats(begins: Iterable[tuple[float, Hashable]]) -> list[tuple[Hashable, float, float]]:
    """What began again, each time: what it was, when it had begun before, and when again. ``begins``: in order."""
    last: dict[Hashable, float] = {}
    found = []
    for at, what in begins:
        if what in last:
            found.append((what, last[what], at))
        last[what] = at
    return found


def apart(begins: Iterable[tuple[float, Hashable]], mishap: Mishap | None) -> tuple[int, int]:
    """How often something began again: (by the kills, by the mishap)."""
    again = repeats(begins)
    caused = sum(mishap is not None and mishap.caused(first, second) for _, first, second in again)
    return len(again) - caused, caused


def bodies(lines: Iterable[Line]) -> list[tuple[float, Hashable]]:
    """The beginnings of step bodies. Effects are counted at the sink instead."""
    return [(line.at, line.place) for line in lines if line.step != "notify"]


def needlessly(lines: list[Line], mishap: Mishap | None) -> int:
    """How many steps began again after the restore although they had neither begun nor been under way since."""
    if mishap is None:
        return 0
    under_way = _under_way([line for line in lines if line.at <= mishap.to])
    return sum(
        first < mishap.to and what not in under_way
        for what, first, second in repeats(bodies(lines))
        if first < mishap.restored < second
    )


def _under_way(lines: list[Line]) -> set[Hashable]:
    """What each process began last; licence texts are read several at a time."""
    newest = {line.pid: line for line in lines}
    return {
        line.place
        for line in lines
        if (line.step, _name(line.subject)) == (newest[line.pid].step, _name(newest[line.pid].subject))
    }


def _name(subject: str) -> str:
    """The distribution that a witness is about."""
    return subject.split(" ")[0]


def resumption(lines: Iterable[Line], pid: int, at: float) -> tuple[str | None, float | None]:
    """What ``pid`` began last before it was killed at ``at``, and when another process went on with it."""
    held: str | None = None
    for line in lines:
        subject = _name(line.subject)
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
        *_versions(figures.versions),
        *_mishap(figures, figures.mishap),
        *_breakdown(figures, figures.breakdown),
        *_errand(figures, figures.errand),
        *_squeeze(figures, figures.squeeze),
        _exactly("notes that the journal confirms", figures.notes, figures.sent),
        Row("duration", f"{figures.seconds:.0f} s"),
    ]


def _versions(versions: Kept) -> list[Row]:
    return [
        Row("snapshots of its home", str(versions.snapshots)),
        Row("it stood still for each", _freezes(versions.freezes_ms)),
        Row("kept of it in packs", f"{size(versions.packed)}, the home itself {size(versions.home)}"),
    ]


def _mishap(figures: Figures, mishap: Mishap | None) -> list[Row]:
    if mishap is None:
        return [Row("restore after the deletion", "never came to it", "= 1", False)] if figures.blows else []
    redone = f"{figures.steps_redone} steps, {figures.bought_again} of them model calls"
    return [
        Row("restore after the deletion", f"{mishap.seconds:.1f} s, {mishap.notes} notes"),
        _exactly("notes lost", mishap.lost, 0),
        _exactly("paths unlike the snapshot", mishap.differing, 0),
        Row("taken back and done again", redone),
        _exactly("done again for nothing", figures.redone_needlessly, 0),
    ]


def _breakdown(figures: Figures, breakdown: Breakdown | None) -> list[Row]:
    if breakdown is None:
        return [Row("watchman broken and healed", "never came to it", "= 1", False)] if figures.blows else []
    healed = f"{breakdown.healed_s:.1f} s, rung {breakdown.rung}; seen after {breakdown.found_ms} ms"
    in_time = breakdown.healed_s <= HEALED_S and breakdown.rung == HEALED_RUNG
    put_back = ("as before" if breakdown.as_before else "not as before") + (
        ", the broken one kept" if breakdown.kept else ", the broken one lost"
    )
    return [
        Row("watchman broken and healed", healed, f"≤ {HEALED_S} s", in_time),
        Row("its configuration", put_back, "both", breakdown.as_before and breakdown.kept),
    ]


def _errand(figures: Figures, errand: Errand | None) -> list[Row]:
    if errand is None:
        return [Row("messenger killed in a turn", "never came to it", "= 1", False)] if figures.blows else []
    went = f"answered {errand.seconds:.1f} s later, {errand.replayed} calls from the record"
    return [
        Row("messenger killed in a turn", went, "3 calls", errand.answered and errand.replayed == _REPLAYED),
        _exactly("calls to its model bought", errand.bought, 2),
        _exactly("its messages that arrived", errand.arrived, 1),
    ]


def _squeeze(figures: Figures, squeeze: Squeeze | None) -> list[Row]:
    if squeeze is None:
        return [Row("messenger made room", "never came to it", "= 1", False)] if figures.blows else []
    back = f"answered {squeeze.seconds:.1f} s after its next message"
    return [
        Row(
            "messenger made room", f"{squeeze.made_room_s:.1f} s after memory was short", f"≤ {MADE_ROOM_S} s",
            squeeze.made_room_s <= MADE_ROOM_S,
        ),
        Row("and came back", back, f"≤ {WOKEN_S} s", squeeze.answered and squeeze.seconds <= WOKEN_S),
    ]  # fmt: skip


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


def _freezes(times: list[float]) -> str:
    return f"median {median(times):.0f} ms, longest {max(times):.0f} ms" if times else "it was never running"


def _times(blows: list[Blow]) -> str:
    times = [blow.seconds for blow in blows if blow.seconds is not None]
    return f"median {median(times):.2f} s, longest {max(times):.2f} s" if times else "nothing was interrupted"
