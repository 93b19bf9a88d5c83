"""A hold file: while it is there, an instance does not run. It says who wants that, and why.

A person's word is free text; its first line is the reason. Relit's own, where there is one, stands before it in three
lines: the reason, who holds (never empty), and the process that does. The second line is empty where a person's word
comes first; its third, like relit's, may name a process (an upgrade, a restart): when that is dead, the word counts no
more. So a restore and a person can hold an agent at once, and neither ends the other's hold.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

import msgspec

from relit.lib import proc

_MOST = 64 << 10  # bytes that are read
_UNSAID = "it is held\n"


class Word(NamedTuple):
    """Relit's own. ``process``: JSON of one that it ends with; empty: it stays until it is taken back."""

    reason: str
    holder: str
    process: str = ""


class Held(NamedTuple):
    """What a file says. ``person``: the text of a person's word; ``None``: there is none."""

    ours: Word | None = None
    person: str | None = None

    @property
    def reason(self) -> str:
        """Why, in one line."""
        said = self.ours.reason if self.ours is not None else (self.person or "").partition("\n")[0]
        return said.strip() or _UNSAID.strip()

    def alive(self) -> Self:
        """Without the words of processes that are dead."""
        ours, person = self.ours, self.person
        if ours is not None and _is_dead(ours.process):
            ours = None
        if person is not None and _is_dead("".join(person.split("\n")[2:3])):
            person = None
        return self._replace(ours=ours, person=person)

    def text(self) -> str:
        """As it is written."""
        person = self.person or ""
        if self.ours is None:
            return person
        lines = [*self.ours] if self.ours.process or person else self.ours[:2]
        return "".join(f"{' '.join(line.split())}\n" for line in lines) + person


NOBODY = Held()


def mine() -> str:
    """This process, as a word names it."""
    return msgspec.json.encode(proc.myself()).decode()


def read(path: str | os.PathLike[str]) -> Held:
    """What it says now: nobody holds where it is not there. OSError."""
    try:
        with open(path, "rb") as file:
            lines = file.read(_MOST).decode(errors="replace").split("\n")
    except FileNotFoundError as error:
        return Held(person=f"{path}: {error.strerror}\n") if os.path.lexists(path) else NOBODY
    if len(lines) < 2 or not lines[1].strip():
        return Held(person="\n".join(lines) or _UNSAID)
    rest = "\n".join(lines[3:])
    return Held(Word(lines[0], lines[1], "".join(lines[2:3])), rest or None)


class Change:
    """What becomes of a file: set ``now``."""

    def __init__(self, was: Held) -> None:
        self.was = self.now = was


@contextmanager
def changing(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[Change]:
    """Nobody else changes it meanwhile. OSError; not ``wait``: BlockingIOError when somebody does."""
    folder = os.path.dirname(path) or "."
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        change = Change(read(path))
        yield change
        if change.now != change.was:
            _put(path, change.now)
    finally:
        os.close(fd)


def _put(path: str | os.PathLike[str], held: Held) -> None:
    if held == NOBODY:
        os.unlink(path)
        return
    draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(held.text())
        os.replace(draft, path)
    except OSError:
        if os.path.lexists(draft):
            os.unlink(draft)
        raise


def _is_dead(text: str) -> bool:
    """Whether that names a process of this boot that is no more."""
    try:
        named = msgspec.json.decode(text, type=proc.ProcessId)
    except msgspec.MsgspecError:
        return False
    if named.boot != proc.boot_id():
        return True
    return named.namespace == proc.pid_namespace() and proc.start_time(named.pid) != named.start
