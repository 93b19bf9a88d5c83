"""``ps``: agents, what they do now."""

from __future__ import annotations

import shutil
import sys
import textwrap

import click
import msgspec

from relit.cli.board import STYLES, Board, Line
from relit.cli.exits import DEGRADED
from relit.cli.roster import OWN, Row
from relit.cli.screen import Screen
from relit.cli.session import Session, pass_session
from relit.cli.survey import Found, Survey
from relit.lib.clock import SYSTEM_CLOCK
from relit.settings.noted import noted_start


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="relit's own processes as rows of the table.")
@pass_session
def ps(session: Session, everything: bool) -> int:
    """Agents: what they do now. Exit code 3 when one of them needs a person or has no worker.

    TURN: the run that it works on and for how long. STEP: the last one that it has done there. MEM: what its processes
    hold, and its limit. SNAPSHOT: how long ago the last version of its home was taken. QUEUE: messages that wait.
    COST: of its calls to models today. Works while the server is away, too.
    """
    found = Survey(session, session.api(), noted_start(session.data)).look()
    screen = session.screen
    if screen.as_json:
        screen.json(document(found))
    else:
        show(screen, found, everything)
    return DEGRADED if found.troubles else 0


def document(found: Found) -> dict[str, object]:
    """The answer in JSON."""
    here = found.here
    return {
        "agents": found.rows,
        "instances": found.instances,
        "workers": found.workers,
        "troubles": found.troubles,
        "asks": found.asks,
        "own": {name: held.bytes for name, held in found.own.items()},
        "node": here.node if here else None,
        "keeper": here.keeper if here else None,
        "memory": found.memory,
    }


def show(screen: Screen, found: Found, everything: bool) -> None:
    """The table, as wide as the terminal is."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    board = Board(width, plain=not speaks_utf8())
    rows = [*found.rows, *(own_rows(found) if everything else [])]
    if rows:
        for line in board.lines(rows, SYSTEM_CLOCK.now_ms()):
            screen.line(painted(screen, line).rstrip())
    else:
        screen.note("no agents yet. next: relit agent add NAME, relit up MODULE, or relit run MODULE:WORKFLOW")
    if found.own and not everything and not screen.quiet:
        screen.line(painted(screen, board.own(found.instances, found.own)))
    for ask in found.asks:
        screen.note(_wrapped(ask, width))
    for trouble in found.troubles:
        screen.note(screen.style(_wrapped(trouble, width), fg="yellow"))


def own_rows(found: Found) -> list[Row]:
    """relit's own processes, as agents are shown."""
    states = {each.name: each for each in found.instances}
    rows = []
    for name in (*OWN, "node", "keeper"):
        each, held = states.get(name), found.own.get(name)
        if each is not None or held is not None:
            row = Row(agent=name, state=each.state if each else "ready", kind="relit")
            row.memory = held.bytes if held else None
            if each is not None:
                row = msgspec.structs.replace(
                    row, restarts=each.restarts, reason=each.reason, retry_at=each.retry_at_ms
                )
            rows.append(row)
    return rows


def painted(screen: Screen, line: Line) -> str:
    """A line in colours."""
    return "".join(screen.style(text, **STYLES[style]) if style else text for text, style in line)


def _wrapped(text: str, width: int | None) -> str:
    if width is None or len(text) <= width:
        return text
    return textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)


def speaks_utf8() -> bool:
    """Whether shapes can be shown."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
