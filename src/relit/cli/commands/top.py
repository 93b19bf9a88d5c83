"""``top``: agents, live."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relit.cli.board import STYLES, Line
from relit.cli.commands.ps import document, painted, speaks_utf8
from relit.cli.exits import DEGRADED, OK
from relit.cli.http import Api
from relit.cli.keys import Keys
from relit.cli.roster import Row
from relit.cli.session import Session, pass_session
from relit.cli.stage import Panel, Stage, about
from relit.cli.survey import Survey
from relit.cli.watch import Watch
from relit.lib.clock import SYSTEM_CLOCK
from relit.node import logbook
from relit.settings.noted import noted_start

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.live import Live
    from rich.segment import Segment
    from rich.style import Style

_LOG_LINES = 100
_TICK_S = 0.25  # between looks whether there is something new to draw
_TIMEOUT_S = 5.0
_SLOW = 5  # looks


@click.command()
@pass_session
def top(session: Session) -> int:
    """Agents, live: what they do, what they hold, what happens; once a second.

    Keys: arrows or j and k select, l shows the last lines of the agent's log, w why it is as it is, q ends it. Where
    there is no terminal one frame is printed; the exit code is that of `relit ps`.
    """
    api = Api(session.url(), session.token(), timeout=_TIMEOUT_S)
    watch = Watch(Survey(session, api, noted_start(session.data), slow=_SLOW), api)
    if session.screen.as_json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        return _once(session, watch)
    watch.start()
    try:
        Top(session, watch).run()
    except KeyboardInterrupt:
        return OK
    finally:
        watch.stop()
    return OK


def _once(session: Session, watch: Watch) -> int:
    seen = watch.look()
    if seen.found is None:
        assert seen.error is not None, "nothing was found for a reason"
        raise seen.error
    if session.screen.as_json:
        session.screen.json(document(seen.found))
    else:
        stage = Stage(shutil.get_terminal_size().columns, 10_000, plain=not speaks_utf8(), live=False)
        for line in stage.frame(seen, SYSTEM_CLOCK.now_ms()):
            session.screen.line(painted(session.screen, line).rstrip())
    return DEGRADED if seen.found.troubles else OK


class Top:
    """The live screen. Draws when something is new, or a key was pressed."""

    def __init__(self, session: Session, watch: Watch) -> None:
        self._session = session
        self._watch = watch
        self._selected = ""
        self._show = ""  # what the panel is about: log or why
        self._why: dict[str, list[str]] = {}
        self._drawn: object = None
        self._plain = not speaks_utf8()

    def run(self) -> None:
        """Until somebody has had enough."""
        from rich.console import Console
        from rich.live import Live

        console = Console(no_color=not self._session.screen.colour, highlight=False)
        with (
            Keys() as keys,
            Live(
                console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            ) as live,
        ):
            while True:
                self._draw(live)
                key = keys.read(_TICK_S)
                if key == "q":
                    return
                if key is not None:
                    self._press(key)

    # --- keys --------------------------------------------------------------------------------------------------

    def _press(self, key: str) -> None:
        self._drawn = None
        page = self._stage().page()
        steps = {"up": -1, "down": 1, "page up": -page, "page down": page, "home": -10_000, "end": 10_000}
        if key in steps:
            self._move(steps[key])
        elif key in ("l", "w"):
            show = "log" if key == "l" else "why"
            self._show = "" if self._show == show else show
            self._why.clear()
        elif key == "escape":
            self._show = ""

    def _rows(self) -> list[Row]:
        found = self._watch.latest.found
        return found.rows if found else []

    def _at(self) -> int:
        names = [row.agent for row in self._rows()]
        return names.index(self._selected) if self._selected in names else 0

    def _move(self, by: int) -> None:
        if rows := self._rows():
            self._selected = rows[max(0, min(len(rows) - 1, self._at() + by))].agent

    # --- drawing -----------------------------------------------------------------------------------------------

    def _stage(self) -> Stage:
        size = shutil.get_terminal_size()
        return Stage(size.columns, size.lines, plain=self._plain)

    def _draw(self, live: Live) -> None:
        seen, size = self._watch.latest, shutil.get_terminal_size()
        if self._drawn == (id(seen), size):
            return
        self._drawn = (id(seen), size)
        live.update(Frame(self._stage().frame(seen, SYSTEM_CLOCK.now_ms(), self._at(), self._panel())), refresh=True)

    def _panel(self) -> Panel | None:
        rows = self._rows()
        if not self._show or not rows:
            return None
        row = rows[self._at()]
        if self._show == "log":
            name = row.instances[0] if row.instances else row.agent
            return Panel(title=f"log of {name}", text=_log(self._session.data / "agents" / name / "log" / "out.log"))
        if row.agent not in self._why:
            self._why[row.agent] = _why(self._session, row.agent)
        text = about(row, SYSTEM_CLOCK.now_ms())
        if told := self._why[row.agent]:
            text = [*text[:1], *told]
        return Panel(title=f"why {row.agent}", text=text, end=False)


def _log(path: Path) -> list[str]:
    try:
        return [logbook.parsed(line).text for line in logbook.tail(path, _LOG_LINES)] or ["nothing yet"]
    except OSError as error:
        return [f"{path}: {error.strerror}"]


def _why(session: Session, agent: str) -> list[str]:
    """What `relit why` says, where there is that command."""
    from relit.cli.main import COMMANDS

    if "why" not in COMMANDS:
        return []
    named = [(f"--{name}", session.flags.get(name)) for name in ("data", "config", "server")]
    flags = [word for flag, value in named if value for word in (flag, value)]
    words = [sys.executable, "-m", "relit.cli", *flags, "--no-color", "why", agent]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return ["relit why did not answer in time"]
    return [line for line in (done.stdout or done.stderr).splitlines() if line.strip()]


class Frame:
    """Lines, for rich: without its markup and measuring, which would cost more than all the rest."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for number, line in enumerate(self._lines):
            if number:
                yield Segment.line()
            for text, style in line:
                yield Segment(text, _style(style))


@functools.cache
def _style(name: str) -> Style:
    from rich.style import Style

    words = name.split()
    how = STYLES[next((word for word in words if word != "reverse"), "")]
    return Style(color=how.get("fg"), bold=how.get("bold"), dim=how.get("dim"), reverse="reverse" in words or None)
