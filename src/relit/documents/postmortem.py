"""An incident as a page for a person at 3 a.m., in Markdown. Pure.

What comes from agents (logs, diffs, titles) is quoted so that it can neither end the block it stands in nor move a
terminal's cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo

from relit.documents.incidents import IncidentDetail, IncidentEffect, IncidentEntry
from relit.lib.durations import human, size

BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 48
_BEGINS = ("#", ">", "`", "~", "-", "+", "*", "=", "|")
_RUNGS = {1: "restart", 2: "recreate", 3: "known-good", 4: "a person"}


def postmortem(incident: IncidentDetail, now: int, zone: tzinfo = UTC) -> str:
    """The page. ``now`` in ms; times are shown in ``zone``."""
    clock = _Clock(incident, zone)
    parts = [
        f"# {_text(incident.title or incident.cause) or _text(incident.agent)}",
        _state(incident, now, clock),
        _text(sentence(incident)),
        _command(incident.next),
        _section("Impact", _text(incident.impact)),
        _section("Exit", _text(incident.exit)),
        _section(f"Timeline ({clock.name})", _timeline(incident.timeline, clock)),
        _section("What relit did", _actions(incident.timeline)),
        _section("Effects in doubt", _effects(incident)),
        _section("Unfinished runs", _runs(incident)),
        _section("Memory", _memory(incident.memory, clock)),
        _section("What was changed in its configuration", _config(incident.config)),
        _section("Last log lines", _block(incident.log) if incident.log else ""),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def sentence(incident: IncidentDetail) -> str:
    """What happened, in one sentence of plain text."""
    cause = one_line(incident.cause or incident.title).rstrip(".") or "nobody knows why"
    over = "" if incident.open else " It is over."
    return one_line(f"{incident.agent}: {cause}.{over}")


def did(timeline: Iterable[IncidentEntry]) -> list[IncidentEntry]:
    """What relit did by itself."""
    return [each for each in timeline if each.took_ms is not None or each.outcome]


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """Values as a curve of bars; of more values than ``width`` the highest ones are seen."""
    if not values:
        return ""
    cells = [max(part) for part in _parts(values, min(width, len(values)))]
    low, span = min(cells), (max(cells) - min(cells)) or 1
    return "".join(BARS[min(len(BARS) - 1, int((cell - low) / span * len(BARS)))] for cell in cells)


def _parts(values: Sequence[float], count: int) -> Iterator[Sequence[float]]:
    for number in range(count):
        yield values[number * len(values) // count : (number + 1) * len(values) // count]


class _Clock:
    """Moments as this page writes them: with the date where the incident did not end on the day on which it began."""

    def __init__(self, incident: IncidentDetail, zone: tzinfo) -> None:
        self._zone = zone
        moments = [incident.opened_at, *(each.at for each in incident.timeline)]
        if incident.resolved_at is not None:
            moments.append(incident.resolved_at)
        self._dated = len({self._at(each).date() for each in moments}) > 1
        self.name = self._at(incident.opened_at).tzname() or "UTC"

    def _at(self, ms: int) -> datetime:
        try:
            return datetime.fromtimestamp(ms / 1000, self._zone)
        except (ValueError, OverflowError, OSError):  # a clock that was never set
            return datetime.fromtimestamp(0, self._zone)

    def short(self, ms: int) -> str:
        return self._at(ms).strftime("%m-%d %H:%M:%S" if self._dated else "%H:%M:%S")

    def full(self, ms: int) -> str:
        return self._at(ms).strftime("%Y-%m-%d %H:%M:%S")


def _state(incident: IncidentDetail, now: int, clock: _Clock) -> str:
    opened = f"{clock.full(incident.opened_at)} {clock.name}"
    if incident.resolved_at is None:
        state = f"**Open** since {opened} ({human(max(0, now - incident.opened_at))})"
    else:
        state = f"**Resolved** after {human(max(0, incident.resolved_at - incident.opened_at))}; it began {opened}"
    rung = f"rung {incident.rung} of 4 ({_RUNGS.get(incident.rung, '?')})"
    named = f"instance {_text(incident.instance)} · " if incident.instance not in ("", incident.agent) else ""
    return f"{state} · {incident.severity} · {rung} · {named}incident {_text(incident.id)}"


def _command(text: str) -> str:
    return f"**Next:** {_code(text)}" if text.strip() else ""


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _timeline(entries: Sequence[IncidentEntry], clock: _Clock) -> str:
    rows = [[clock.short(each.at), each.what, each.outcome, _took(each)] for each in entries]
    return _table(["time", "what", "outcome", "took"], rows)


def _actions(entries: Sequence[IncidentEntry]) -> str:
    return _table(
        ["action", "outcome", "took"], [[each.what, each.outcome or "done", _took(each)] for each in did(entries)]
    )


def _took(entry: IncidentEntry) -> str:
    return "" if entry.took_ms is None else human(max(0, entry.took_ms))


def _effects(incident: IncidentDetail) -> str:
    lines = [
        f"- {_text(each.name)}: " + _code(f"relit effects resolve {_place(each)} --done|--not-done")
        for each in incident.effects
    ]
    return "Nobody knows whether these happened:\n\n" + "\n".join(lines) if lines else ""


def _place(effect: IncidentEffect) -> str:
    """A run and a position, or a call to a tool."""
    return f"{effect.run[-8:]} {effect.pos}".rstrip()


def _runs(incident: IncidentDetail) -> str:
    rows = [[each.id[-8:], each.target, each.state, each.reason] for each in incident.runs]
    return _table(["run", "workflow", "state", "reason"], rows)


def _memory(curve: Sequence[tuple[int, int]], clock: _Clock) -> str:
    if not curve:
        return ""
    values = [value for _, value in curve]
    peak_at = next(at for at, value in curve if value == max(values))
    figures = f"{size(min(values))} to {size(max(values))} (at {clock.short(peak_at)}), last {size(values[-1])}"
    return f"`{sparkline(values)}` {figures}; {clock.short(curve[0][0])} to {clock.short(curve[-1][0])}"


def _config(files: dict[str, str]) -> str:
    return "\n\n".join(f"{_code(name)}\n\n{_block(text.splitlines(), 'diff')}" for name, text in sorted(files.items()))


def _block(lines: Iterable[str], language: str = "text") -> str:
    """Lines as they are, fenced by more backticks than they hold in a row."""
    text = "\n".join(_clean(part) for line in lines for part in (line.splitlines() or [""]))
    fence = "`" * max(3, _longest(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _code(text: str) -> str:
    plain = one_line(text)
    ticks = "`" * (_longest(plain) + 1)
    pad = " " if "`" in plain else ""
    return f"{ticks}{pad}{plain}{pad}{ticks}"


def _longest(text: str) -> int:
    """The longest row of backticks in it."""
    longest = current = 0
    for char in text:
        current = current + 1 if char == "`" else 0
        longest = max(longest, current)
    return longest


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns without an entry are left out."""
    kept = [i for i, _ in enumerate(heads) if any(row[i].strip() for row in rows)]
    if not kept:
        return ""
    lines = [[heads[i] for i in kept], ["---"] * len(kept), *([_cell(row[i]) for i in kept] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<")


def _text(text: str) -> str:
    """Text from elsewhere in one line that begins nothing and holds no HTML."""
    plain = one_line(text).replace("<", "\\<")
    return f"\\{plain}" if plain.startswith(_BEGINS) else plain


def one_line(text: str) -> str:
    """Text from elsewhere in one line."""
    return _clean(" ".join(text.split()))


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() or char == " " else "·" for char in text.replace("\t", "    "))
