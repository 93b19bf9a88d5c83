"""``logs``: what instances have written, out of the data folder, whether anything runs or not."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relit.cli.screen import Screen, clean, when
from relit.cli.session import Session, pass_session
from relit.errors import NotFound
from relit.lib import durations
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.moments import parse_moment

if TYPE_CHECKING:
    from relit.node.logbook import Line, Logbook

LINES = 200
_LOOK_S = 0.2  # between looks for what is new
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
_DRESS = re.compile(r"\x1b(?:\[[0-9:;<=>?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")


class SinceType(click.ParamType[int]):
    """``10m``, or a moment; in milliseconds since 1970."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text, now = str(value), SYSTEM_CLOCK.now_ms()
        try:
            return now - durations.to_ms(text)
        except ValueError:
            pass  # it may be a moment
        try:
            return parse_moment(text, now)
        except ValueError as error:
            self.fail(f"{error}; or 10m for the last ten minutes", param, ctx)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes; Ctrl-C ends it.")
@click.option("--since", type=SinceType(), metavar="WHEN", help="10m, 14:02, '10 minutes ago', 2026-01-31T09:00.")
@click.option("-n", "--lines", type=click.IntRange(0), help="The last so many lines. [default: 200; with --since: all]")
@click.option("--raw", is_flag=True, help="Only the text, as it was written: no time, no name, colours and all.")
@pass_session
def logs(
    session: Session, names: tuple[str, ...], follow: bool, since: int | None, lines: int | None, raw: bool
) -> None:
    """What agents, relit's own server and its volumes have written, each line with its time; secrets are left out.

    NAME is an agent, of which all instances are shown, or an instance; default: all there are. Read from this
    machine's data folder: nothing of relit need run.
    """
    folder = session.data / "agents"
    found = _chosen(session, folder, names)
    if not found and not follow:
        session.screen.note("no logs yet. next: relit up")
    most = lines if lines is not None else None if since is not None else LINES
    shelf = Shelf(folder, Page(session.screen, raw))
    try:
        shelf.begin(found, since, most)
        while follow:
            time.sleep(_LOOK_S)
            shelf.go_on(found if names else instances(session))
    finally:
        shelf.close()


# --- whose -----------------------------------------------------------------------------------------------------


def instances(session: Session) -> list[str]:
    """Whoever has a log in the data folder. Raises ``ConfigError`` when that is somebody else's."""
    session.run_dir()
    folder = session.data / "agents"
    if not folder.is_dir():
        return []
    return sorted(each.name for each in folder.iterdir() if (each / "log" / "out.log").exists())


def _chosen(session: Session, folder: Path, names: Sequence[str]) -> list[str]:
    there = instances(session)
    if not names:
        return there
    return sorted({each for name in names for each in _of(folder, name, there)})


def _of(folder: Path, name: str, there: Sequence[str]) -> list[str]:
    """The instances that work for ``name``. Raises ``NotFound``."""
    owners = {name, *_owners(folder / name)}
    found = [each for each in there if each in owners or any(_copy(folder, each, owner) for owner in owners)]
    if not found:
        why = f"there are {', '.join(there)}" if there else "there is no log yet"
        raise NotFound(f"there is no log of {name}", why=why, fix="relit logs")
    return found


def _owners(agent: Path) -> list[str]:
    """In whose processes an agent lives that has none of its own: workers leave notes of that."""
    notes = agent / "run" / "lives-in"
    return [note.name for note in notes.iterdir()] if notes.is_dir() else []


def _copy(folder: Path, instance: str, owner: str) -> bool:
    """Whether it is one of several instances of an agent: those have a log and nothing else."""
    number = instance.removeprefix(f"{owner}-")
    return number != instance and number.isdecimal() and not any((folder / instance / each).exists() for each in _OWN)


_OWN = ("home", "run")


# --- what they wrote -------------------------------------------------------------------------------------------


class Shelf:
    """The logs of several instances, as one."""

    def __init__(self, folder: Path, page: Page) -> None:
        self._folder = folder
        self._page = page
        self._books: dict[str, Logbook] = {}

    def begin(self, names: Sequence[str], since: int | None, most: int | None) -> None:
        """Show what there is, or the end of it."""
        self._page.widen(names)
        for name in names:
            self._open(name, since, most)
        lines = ((name, line) for name, line in self._merged() if since is None or line.at >= since)
        for name, line in lines if most is None else deque(lines, maxlen=most):
            self._page.line(name, line)

    def go_on(self, names: Sequence[str]) -> None:
        """Show what came since."""
        self._page.widen([*self._books, *names])
        for name in names:
            if name not in self._books:
                self._open(name, 0, None)
        for name, line in self._merged():
            self._page.line(name, line)
        for name, book in self._books.items():
            if book.lost:
                book.lost = False
                self._page.lost(name)

    def close(self) -> None:
        """Safe twice."""
        for book in self._books.values():
            book.close()

    def _open(self, name: str, since: int | None, most: int | None) -> None:
        from relit.node.logbook import Logbook

        book = self._books[name] = Logbook(self._folder / name / "log" / "out.log")
        if since is not None:
            book.since(since)
        elif most is not None:
            book.last(most)

    def _merged(self) -> Iterator[tuple[str, Line]]:
        return merge(*(_named(name, book.lines()) for name, book in self._books.items()), key=lambda each: each[1].at)


def _named(name: str, lines: Iterable[Line]) -> Iterator[tuple[str, Line]]:
    return ((name, line) for line in lines)


class Page:
    """How lines are shown."""

    def __init__(self, screen: Screen, raw: bool) -> None:
        self._screen = screen
        self._raw = raw
        self._styles: dict[str, str] = {}
        self._width = 0

    def widen(self, names: Iterable[str]) -> None:
        """These are shown from now on."""
        for name in names:
            self._styles.setdefault(name, _COLOURS[len(self._styles) % len(_COLOURS)])
        self._width = max(map(len, self._styles), default=0)

    def line(self, name: str, line: Line) -> None:
        """One line."""
        if self._screen.as_json:
            self._screen.row({"instance": name, "at": line.at, "text": line.text})
        elif self._raw:
            click.echo(line.text, color=True)
        else:
            head = f"{self._screen.dim(_time(line.at))}  "
            if len(self._styles) > 1:
                head += self._screen.style(name.ljust(self._width), fg=self._styles[name]) + "  "
            self._screen.line(head + clean(_DRESS.sub("", line.text).expandtabs()))

    def lost(self, name: str) -> None:
        """Some could not be shown."""
        self._screen.note(f"{name}: it wrote faster than could be shown here; lines are missing")


def _time(at: int) -> str:
    return f"{when(at)}.{at % 1000:03d}" if at else ""
