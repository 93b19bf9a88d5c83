"""What commands print: aligned text for people, JSON for programs. Plain when it is not a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec

from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import human

COLOURS = {
    "completed": "green", "ready": "green", "live": "green", "working": "green", "ok": "green",
    "running": "cyan", "starting": "cyan",
    "waiting": "blue", "scheduled": "blue", "available": "blue", "idle": "blue",
    "parked": "yellow", "paused": "yellow", "backing-off": "yellow", "in_doubt": "yellow", "warning": "yellow",
    "failed": "red", "discarded": "red", "dead": "red", "down": "red", "error": "red",
    "cancelled": "bright_black", "stopped": "bright_black", "left": "bright_black",
    "superseded": "bright_black", "forgotten": "bright_black", "kept": "green",
}  # fmt: skip
# What stands before an incident's words, also where there is no UTF-8, and the colour of both.
SHAPES = {
    "critical": ("✖", "x", "red"), "warning": ("▲", "!", "yellow"), "info": ("·", ".", "bright_black"),
    "open": ("●", "*", "red"), "resolved": ("○", "-", "green"),
}  # fmt: skip
COLOURS |= {f"{shape} {word}": colour for word, (*both, colour) in SHAPES.items() for shape in both}


class Screen:
    """Standard output and error of one command."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, colour: bool = True) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.colour = colour and sys.stdout.isatty()

    def line(self, text: str = "") -> None:
        """A line of the answer."""
        click.echo(text, color=self.colour)

    def note(self, text: str) -> None:
        """A remark on standard error; not with --quiet or --json."""
        if not self.quiet and not self.as_json:
            click.echo(text, err=True, color=self.colour)

    def hint(self, *commands: str) -> None:
        """The next commands worth knowing, for a person at a terminal."""
        if commands and sys.stdout.isatty():
            self.note(self.dim("next: " + " · ".join(commands)))

    def json(self, value: Any) -> None:
        """One JSON document: indented at a terminal, one line otherwise."""
        plain = msgspec.to_builtins(value, str_keys=True)
        indent = 2 if sys.stdout.isatty() else None
        click.echo(json.dumps(plain, ensure_ascii=False, indent=indent))

    def row(self, value: Any) -> None:
        """One line of NDJSON, at once."""
        click.echo(json.dumps(msgspec.to_builtins(value, str_keys=True), ensure_ascii=False))

    def style(self, text: str, **how: Any) -> str:
        return click.style(text, **how) if self.colour else text

    def dim(self, text: str) -> str:
        return self.style(text, dim=True)

    def state(self, text: str) -> str:
        """A state in its colour."""
        return self.style(text, fg=COLOURS.get(text)) if text in COLOURS else text

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "none") -> None:
        """Columns, aligned; numbers to the right. ``empty`` is said when there is no row."""
        lines = [[clean(cell) for cell in row] for row in rows]
        if not lines:
            self.note(empty)
            return
        widths = [max(len(head), *(len(line[i]) for line in lines)) for i, head in enumerate(heads)]
        right = [all(line[i].isdigit() or not line[i] for line in lines) for i in range(len(heads))]
        self.line(self.dim(_aligned(heads, widths, right)))
        for line in lines:
            cells = _cells(line, widths, right)
            painted = [cell.replace(raw, self.state(raw), 1) for cell, raw in zip(cells, line, strict=True)]
            self.line("  ".join(painted).rstrip())

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and values, one a line; empty values are left out."""
        kept = [(name, value) for name, value in pairs if value]
        width = max((len(name) for name, _ in kept), default=0)
        for name, value in kept:
            self.line(f"{self.dim(name.ljust(width))}  {self.state(value)}")


def _cells(line: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    return [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(line, widths, right, strict=True)
    ]


def _aligned(line: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return "  ".join(_cells(line, widths, right)).rstrip()


def clean(text: str) -> str:
    """Text from elsewhere without control characters: it must not move the cursor or change colours."""
    return "".join(char if char.isprintable() else "·" for char in text)


def short(id: str) -> str:
    """The end of a run's id: what tells runs apart, and what commands accept."""
    return id[-8:]


def brief(value: Any, width: int = 60) -> str:
    """A value in one line."""
    if value is msgspec.UNSET or value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = clean(text.replace("\n", " "))
    return text if len(text) <= width else text[: width - 1] + "…"


def ago(at: int | None) -> str:
    """How long ago a moment was, or how far off it is."""
    if at is None:
        return ""
    past = SYSTEM_CLOCK.now_ms() - at
    return f"{human(past)} ago" if past >= 0 else f"in {human(-past)}"


def when(at: int | None) -> str:
    """A moment in local time: ``14:02:07`` today, with the date otherwise."""
    if at is None:
        return ""
    moment = datetime.fromtimestamp(at / 1000).astimezone()
    today = datetime.fromtimestamp(SYSTEM_CLOCK.now_ms() / 1000).astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M:%S")
