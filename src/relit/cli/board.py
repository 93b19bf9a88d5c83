"""The table of agents, laid out for a width: cells with the name of a style each, which ``ps`` and ``top`` paint."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from relit.cli.roster import ILL, OWN, Memory, Row
from relit.cli.screen import clean, short
from relit.control.values import InstanceStatus
from relit.lib.durations import size

Piece = tuple[str, str]  # text, and the style that it is in: a name of STYLES, or none
Line = list[Piece]

STYLES: dict[str, dict[str, Any]] = {
    "": {},
    "dim": {"dim": True},
    "bold": {"bold": True},
    "good": {"fg": "green"},
    "busy": {"fg": "green", "bold": True},
    "moving": {"fg": "cyan"},
    "warning": {"fg": "yellow"},
    "bad": {"fg": "red", "bold": True},
    "cold": {"fg": "blue"},
}
# The shape, what stands for it where there is no UTF-8, and the style. The state's word is always beside it.
SHAPES: dict[str, tuple[str, str, str]] = {
    "working": ("▶", ">", "busy"),
    "ready": ("●", "*", "good"),
    "idle": ("●", "*", "good"),
    "starting": ("◐", "~", "moving"),
    "draining": ("◐", "~", "moving"),
    "healing": ("◐", "~", "warning"),
    "backing-off": ("▲", "!", "warning"),
    "paused": ("■", "=", "warning"),
    "stopped": ("◌", "-", "dim"),
    "frozen": ("❄", "f", "cold"),
    "down": ("✖", "x", "bad"),
}
_GAP = "  "
_REASON = "REASON"
_REASON_LEAST = 20
_STEP_MOST = 14
_STEADY = {"STATE": 13, "TURN": 12, "STEP": 12, "MEM": 6, "COST": 6}  # least widths, for what changes all the time


class Column(NamedTuple):
    """``rank``: the highest goes first when there is no room; 0 always stays."""

    head: str
    rank: int
    right: bool = False


COLUMNS = (
    Column("AGENT", 0),
    Column("KIND", 8),
    Column("STATE", 0),
    Column("TURN", 3),
    Column("STEP", 9),
    Column("MEM", 4, right=True),
    Column("SNAPSHOT", 6, right=True),
    Column("QUEUE", 2, right=True),
    Column("RESTARTS", 5, right=True),
    Column("COST", 7, right=True),
    Column(_REASON, 1),
)


class Board:
    """How agents are shown. ``width``: cells of the terminal, ``None`` where there is none; ``plain``: no UTF-8;
    ``steady``: columns stay where they are from one look to the next."""

    def __init__(self, width: int | None, *, plain: bool = False, steady: bool = False) -> None:
        self._width = width
        self._plain = plain
        self._steady = steady

    def lines(self, rows: Sequence[Row], now: int) -> list[Line]:
        """The head, and a line for each agent."""
        cells = [self._cells(row, now) for row in rows]
        least = _STEADY if self._steady else {}
        columns = _fitting(cells, self._width, least)
        widths = [_wide(cells, column, least) for column in columns]
        if self._width is not None and columns:
            widths = _narrowed(columns, widths, self._width)
        head: Line = [(_GAP.join(_padded(c.head, w, c.right) for c, w in zip(columns, widths, strict=True)), "dim")]
        return [head, *(self._line(row, cell, columns, widths) for row, cell in zip(rows, cells, strict=True))]

    def shape(self, state: str) -> str:
        """What stands before a state's word."""
        shapes = SHAPES.get(state, ("?", "?", ""))
        return shapes[1] if self._plain else shapes[0]

    def own(self, instances: Iterable[InstanceStatus], held: Mapping[str, Memory]) -> Line:
        """relit's own processes, in a line."""
        states = {each.name: each.state for each in instances if each.name in OWN}
        line: Line = [("relit:", "dim")]
        for name in (*OWN, "node", "keeper"):
            state = states.get(name, "ready" if name in held else "")
            if state:
                amount = f" {size(held[name].bytes)}" if name in held else ""
                calm = state in ("ready", "working", "idle")
                word = "" if calm else f" {state}"
                style = "dim" if calm else SHAPES[state][2]
                line.append((f" {self.shape(state)} {name}{word}{amount}", style))
        return clipped(line, self._width)

    def _cells(self, row: Row, now: int) -> dict[str, str]:
        return {
            "AGENT": row.agent,
            "KIND": row.kind,
            "STATE": f"{self.shape(row.state)} {row.state}",
            "TURN": _turn(row, now),
            "STEP": _step(row),
            "MEM": _memory(row),
            "SNAPSHOT": "" if row.snapshot_at is None else span(now - row.snapshot_at),
            "QUEUE": str(row.queued) if row.queued else "",
            "RESTARTS": str(row.restarts) if row.restarts else "",
            "COST": _cost(row.cost),
            _REASON: _reason(row, now),
        }

    def _line(self, row: Row, cells: dict[str, str], columns: Sequence[Column], widths: Sequence[int]) -> Line:
        line: Line = []
        for column, width in zip(columns, widths, strict=True):
            text = _padded(cells[column.head], width, column.right)
            line += [(text, _style(row, column.head)), (_GAP, "")]
        return line[:-1]


def _style(row: Row, head: str) -> str:
    state = SHAPES.get(row.state, ("", "", ""))[2]
    if head == "STATE":
        return state
    if row.state == "stopped" or head in ("KIND", "SNAPSHOT"):
        return "dim"
    if head == _REASON:
        return state if row.state in ("down", "backing-off", "healing") else "dim" if state == "moving" else "warning"
    return "bold" if head == "AGENT" else ""


def _turn(row: Row, now: int) -> str:
    if row.turn is None:
        return ""
    more = f" +{row.turn.others}" if row.turn.others else ""
    return f"{short(row.turn.run)} {span(now - row.turn.since)}{more}"


def _step(row: Row) -> str:
    turn = row.turn
    return f"{turn.number} {cut(clean(turn.step), _STEP_MOST)}" if turn is not None and turn.step else ""


def _cost(cost: float | None) -> str:
    """In US dollars; nothing for nothing."""
    if not cost:
        return ""
    return "<$0.01" if cost < 0.005 else f"${cost:.2f}"


def _memory(row: Row) -> str:
    if row.memory is None:
        return ""
    return size(row.memory) + (f"/{size(row.limit)}" if row.limit is not None else "")


def _reason(row: Row, now: int) -> str:
    """Of one in trouble how it ended comes first: it tells most when the line is cut."""
    said = row.reason
    if row.state in ILL and row.last_exit and said != row.last_exit:
        said = f"{row.last_exit}: " + said.replace(f" ({row.last_exit})", "")
    if row.retry_at is not None and row.retry_at > now:
        said = f"again in {span(row.retry_at - now)}: {said}"
    return clean(said)


def span(ms: int) -> str:
    """A span in one unit: ``12s``, ``5m``, ``2h``, ``3d``."""
    seconds = max(0, ms) // 1000
    for unit, many in (("s", 100), ("m", 100), ("h", 48)):
        if seconds < many:
            return f"{seconds}{unit}"
        seconds //= 60 if unit != "h" else 24
    return f"{seconds}d"


# --- fitting ---------------------------------------------------------------------------------------------------


def _wide(cells: Sequence[Mapping[str, str]], column: Column, least: Mapping[str, int]) -> int:
    return max([len(column.head), least.get(column.head, 0), *(cells_of(each[column.head]) for each in cells)])


def _fitting(cells: Sequence[Mapping[str, str]], width: int | None, least: Mapping[str, int]) -> list[Column]:
    """The columns that there is room for. Those of the highest rank go first; before them, unless widths are to stay
    as they are, empty ones."""
    columns = [each for each in COLUMNS if each.head != _REASON or any(cell[_REASON] for cell in cells)]
    if width is None:
        return columns
    empty = [] if least else [each for each in columns if not any(cell[each.head] for cell in cells)]
    gone = sorted((each for each in columns if each.rank), key=lambda each: (each not in empty, -each.rank))
    while gone and _needed(cells, columns, least) > width:
        columns.remove(gone.pop(0))
    return columns


def _needed(cells: Sequence[Mapping[str, str]], columns: Sequence[Column], least: Mapping[str, int]) -> int:
    """The least width of a line: a reason may be cut."""
    widths = [_wide(cells, column, least) for column in columns]
    if columns and columns[-1].head == _REASON:
        widths[-1] = min(widths[-1], _REASON_LEAST)
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _narrowed(columns: Sequence[Column], widths: list[int], width: int) -> list[int]:
    """The last column takes what is left; a name that is too long is cut."""
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    if over > 0 and columns[-1].head == _REASON:
        cut = min(over, widths[-1] - 1)
        widths, over = [*widths[:-1], widths[-1] - cut], over - cut
    return [max(4, widths[0] - over), *widths[1:]] if over > 0 else widths


def _padded(text: str, width: int, right: bool) -> str:
    text = cut(text, width)
    space = " " * (width - cells_of(text))
    return space + text if right else text + space


def cells_of(text: str) -> int:
    """How many cells of a terminal it takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis."""
    if cells_of(text) <= width:
        return text
    while text and cells_of(text) >= width:
        text = text[:-1]
    return text + "…" if width > 0 else ""


def clipped(line: Line, width: int | None) -> Line:
    """The line, no wider than that."""
    if width is None:
        return line
    kept: Line = []
    for text, style in line:
        if width <= 0:
            break
        text = cut(text, width)
        width -= cells_of(text)
        kept.append((text, style))
    return kept
