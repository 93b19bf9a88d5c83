"""What ``relit top`` shows, laid out for a terminal's width and height. No I/O."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

import msgspec

from relit.cli.board import SHAPES, Board, Line, clipped, span
from relit.cli.roster import Row
from relit.cli.screen import brief, clean, short, when
from relit.cli.watch import EVENTS, Seen
from relit.events import Event
from relit.lib.durations import size

_BAR = 12
_TALL = 22  # from here on events have their place, however many agents there are
_LEAST_ROWS = 3  # of agents: everything else makes room for them
_KEYS = "j k select · l log · w why · {close}q quit"
_ORDER = ("down", "healing", "backing-off", "paused", "draining", "starting", "working", "ready", "idle", "frozen",
          "stopped")  # fmt: skip


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """Text about one agent below the table; its end is seen when there is no room for all, or its beginning."""

    title: str
    text: list[str]
    end: bool = True


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "")


class Stage:
    """``width`` and ``height`` in cells. ``live``: somebody has keys to press."""

    def __init__(self, width: int, height: int, *, plain: bool = False, live: bool = True) -> None:
        self._width = width
        self._height = height
        self._live = live
        self._board = Board(width, plain=plain, steady=live)
        self._plain = plain

    def frame(self, seen: Seen, now: int, selected: int = 0, panel: Panel | None = None) -> list[Line]:
        """All lines, no more than there is room for."""
        rows = seen.found.rows if seen.found else []
        head, foot = self._head(seen), self._foot(seen, panel)
        room = self._height - len(head) - len(foot) - 1 - (1 if self._live else 0)
        extra = self._panel(panel, max(0, room - min(len(rows), max(_LEAST_ROWS, room // 3)))) if panel else []
        if panel is None:
            kept = EVENTS + 1 if self._height >= _TALL else 0
            extra = self._ticker(seen, max(kept, room - min(len(rows), room)))
        table = self._table(rows, now, selected, room - len(extra))
        gap: list[Line] = []
        if self._live:
            gap = [[] for _ in range(self._height - sum(map(len, (head, table, extra, foot))))]
        lines = [*head, *table, *gap, *extra, *foot]
        return [clipped(line, self._width) for line in lines][: self._height]

    def page(self) -> int:
        """How far a page goes."""
        return max(1, self._height // 2)

    # --- head --------------------------------------------------------------------------------------------------

    def _head(self, seen: Seen) -> list[Line]:
        lines = [self._machine(seen), self._counts(seen)]
        if self._height < 8:
            return lines[1:]
        own = self._board.own(seen.found.instances, seen.found.own) if seen.found and seen.found.own else []
        more = [each for each in (self._semaphore(seen), own) if each]
        return [*lines, *more, []] if self._height >= 16 and more else lines

    def _semaphore(self, seen: Seen) -> Line:
        """How far it is to the marks, and who would go first."""
        known = seen.found.memory if seen.found else None
        if known is None or not known.capacity:
            return []
        style = {"green": "good", "amber": "warning", "red": "bad"}[known.level]
        line: Line = [("memory ", "dim"), (known.level, style), (f" {size(known.free)} free", "")]
        line.append((f" (amber below {size(known.amber)}, red below {size(known.red)})", "dim"))
        if known.going:
            line.append((f"  starting: {_few(known.going)}, {size(known.reserved)} reserved", "moving"))
        if known.waiting:
            line.append((f"  waiting: {_few([each.name for each in known.waiting])}", "warning"))
        if known.parked:
            names = _few([each.name for each in known.parked])
            line.append((f"  parked: {names}, to wake {known.wake_cpu_s:.0f} s of CPU", "dim"))
        if known.next:
            line.append((f"  next to go: {_few(known.next)}", "dim"))
        return line

    def _machine(self, seen: Seen) -> Line:
        load, cores = seen.machine.load, seen.machine.cores
        hot = "bad" if load[0] > 2 * cores else "warning" if load[0] > cores else ""
        line: Line = [("relit", "bold"), ("  load ", "dim"), (f"{load[0]:.2f}", hot)]
        line.append((f" {load[1]:.2f} {load[2]:.2f} of {cores}", "dim"))
        return [*line, ("  mem ", "dim"), *self._bar(seen.machine.used, seen.machine.total)]

    def _bar(self, used: int, total: int) -> Line:
        share = used / total if total else 0.0
        full = round(share * _BAR)
        style = "bad" if share > 0.9 else "warning" if share > 0.75 else "good"
        on, off = ("#", ".") if self._plain else ("█", "░")
        return [(on * full, style), (off * (_BAR - full), "dim"), (f" {size(used)} of {size(total)}", "")]

    def _counts(self, seen: Seen) -> Line:
        if seen.found is None:
            return [(clean(seen.error.what) if seen.error else "", "bad")]
        counts = Counter(row.state for row in seen.found.rows)
        total = sum(counts.values())
        line: Line = [(f"{total} agent{'' if total == 1 else 's'}", "bold")]
        for state in _ORDER:
            if counts[state]:
                line.append((f"  {self._board.shape(state)} {counts[state]} {state}", SHAPES[state][2]))
        grave = [each for each in seen.incidents if each.grave]
        if seen.incidents:
            style = "bad" if any(each.severity == "critical" for each in grave) else "warning" if grave else "dim"
            count = len(seen.incidents)
            line.append((f"  {count} open incident{'' if count == 1 else 's'}", style))
        return line

    # --- agents ------------------------------------------------------------------------------------------------

    def _table(self, rows: list[Row], now: int, selected: int, room: int) -> list[Line]:
        if not rows:
            return [[("no agents yet. next: relit agent add NAME, or relit up MODULE", "dim")]]
        head, *lines = self._board.lines(rows, now)
        if self._live:
            lines[selected] = [(text, f"{style} reverse".strip()) for text, style in lines[selected]]
        room = max(1, room)
        first = max(0, min(selected - room // 2, len(lines) - room)) if self._live else 0
        shown = lines[first : first + room]
        if hidden := len(lines) - len(shown):
            text = head[0][0].rstrip()
            head = [(text, "dim"), (f"  +{hidden}", "warning")]
        return [head, *shown]

    # --- below -------------------------------------------------------------------------------------------------

    def _panel(self, panel: Panel, room: int) -> list[Line]:
        if room < 2:
            return []
        text = [clean(line.expandtabs()) for line in panel.text]
        text = text[-(room - 1) :] if panel.end else self._wrapped(text)[: room - 1]
        return [self._rule(panel.title), *([(line, "")] for line in text)]

    def _wrapped(self, text: list[str]) -> list[str]:
        """A page is read from its beginning: what is cut off would be missed."""
        return [line for long in text for line in textwrap.wrap(long, self._width, break_on_hyphens=False) or [""]]

    def _rule(self, title: str) -> Line:
        line = "-" if self._plain else "─"
        return [(f"{line}{line} {title} ", "dim"), (line * max(0, self._width - len(title) - 4), "dim")]

    def _ticker(self, seen: Seen, room: int) -> list[Line]:
        if not self._live or room < 3:
            return []
        shown = [self._event(each) for each in seen.events[-min(EVENTS, room - 1) :]]
        none = f"no events: {seen.silent.what}" if seen.silent else "nothing happened since you look"
        return [self._rule("events"), *(shown or [[(clean(none), "dim")]])]

    def _event(self, event: Event) -> Line:
        about = " ".join(part for part in (event.agent or "", short(event.run) if event.run else "") if part)
        details = " ".join(f"{key}={brief(value, 30)}" for key, value in event.data.items() if value not in (None, ""))
        style = (
            "warning" if event.name.rpartition(".")[2] in ("died", "failed", "parked", "discarded", "opened") else ""
        )
        return [
            (when(event.at), "dim"),
            (f"  {event.name:<20}", style),
            (f"  {clean(about):<20}", ""),
            (f"  {details}", "dim"),
        ]

    def _foot(self, seen: Seen, panel: Panel | None) -> list[Line]:
        lines: list[Line] = []
        if seen.found is not None and (said := seen.error.what if seen.error else away(seen)):
            lines.append([(clean(said), "warning")])
        if self._live and self._height >= 8:
            keys = _KEYS.format(close="esc close · " if panel else "")
            lines.append([(keys.replace("·", "-") if self._plain else keys, "dim")])
        return lines


def away(seen: Seen) -> str:
    """That the server does not answer, when it does not."""
    found = seen.found
    return "" if found is None or found.away is None else f"{found.away.what}: shown is what this machine knows"


def _since(row: Row, now: int) -> str:
    since = f" for {span(now - row.since)}" if row.since else ""
    again = f", again in {span(row.retry_at - now)}" if row.retry_at is not None and row.retry_at > now else ""
    return f"{row.state}{since}{again}"


def about(row: Row, now: int) -> list[str]:
    """All that the list knows of one agent, in lines."""
    known = [
        ("state", _since(row, now)),
        ("why", row.reason),
        ("processes", ", ".join(map(str, row.pids))),
        ("restarts", str(row.restarts or "")),
        ("turn", row.turn.run if row.turn else ""),
        ("messages", f"{row.queued} queued, {row.waiting} waiting, {row.parked} parked, {row.dead} dead letters"),
        ("next", f"relit logs {row.agent} -n 100"),
    ]
    return [f"{name:<10} {text}" for name, text in known if text]
