"""What a snapshot leaves out: caches and locks of an agent's kind, what ``.relitignore`` says, ``-shm`` files. Pure.

Patterns are those of gitignore: ``*`` and ``?`` stay within a name, ``**`` crosses folders, a slash anywhere but at
the end anchors at the home, a slash at the end means folders only, ``!`` takes back. The last pattern that matches
decides; what lies in a folder that is left out cannot be taken back. ``*-shm`` is never part of a snapshot: it is
rebuilt from the database, and an old one beside a new database is harmful.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from relit.volumes.glob import Machine, Names, parse

NAME = b".relitignore"
BYTES = 64 << 10  # of .relitignore that count
MOST = 1000  # patterns of .relitignore that count
_SHM = b"-shm"
_TOLD = 20  # faults
_SHOWN = 60  # letters of a pattern in what is told of it
_LEFT_OUT = -1  # in place of a state


class _Rule(NamedTuple):
    names: Names
    folders: bool
    out: bool


class Rules:
    """``patterns`` first, then the lines of ``.relitignore``. ``faults``: what of it counts for nothing, and why."""

    def __init__(self, patterns: Iterable[str] = (), text: bytes = b"") -> None:
        self.faults: list[str] = []
        rules = [*self._read((f"pattern {each!r}", _coded(each)) for each in patterns)]
        lines = enumerate(self._within(text).split(b"\n"), 1)
        own = [*self._read((f"line {number}", line.removesuffix(b"\r")) for number, line in lines)]
        if len(own) > MOST:
            self.faults.append(f"only its first {MOST} patterns count")
        if len(self.faults) > _TOLD:
            self.faults[_TOLD:] = [f"and {len(self.faults) - _TOLD} more faults"]
        rules += own[:MOST]
        self.machine = Machine(rule.names for rule in rules)
        self.of_files = self.of_folders = self.out = 0  # as the machine's ends
        for end, rule in zip(self.machine.ends, rules, strict=True):
            self.of_files |= 0 if rule.folders else end
            self.of_folders |= end
            self.out |= end if rule.out else 0

    def _within(self, text: bytes) -> bytes:
        """The lines that count."""
        if len(text) <= BYTES:
            return text
        self.faults.append(f"only its first {BYTES >> 10} KiB count")
        return text[: text.rfind(b"\n", 0, BYTES + 1) + 1]

    def _read(self, lines: Iterable[tuple[str, bytes]]) -> Iterator[_Rule]:
        for where, line in lines:
            try:
                rule = _rule(line)
            except ValueError as error:
                self.faults.append(f"{where} counts for nothing: {_short(line)}: {error}")
            else:
                if rule is not None:
                    yield rule


class Ignore:
    """The rules, for one pass over a home: what was found out of a folder is remembered."""

    def __init__(self, rules: Rules | None = None) -> None:
        rules = rules or Rules()
        self._fits, self._after = rules.machine.fits, rules.machine.after
        self._files, self._any, self._out = rules.of_files, rules.of_folders, rules.out
        self._states = {b"": rules.machine.start}

    def leaves_out(self, path: bytes, folder: bool) -> bool:
        """Whether that very path is left out, its parents aside."""
        if not folder and path.endswith(_SHM):
            return True
        if not self._any:
            return False
        above, _, name = path.rpartition(b"/")
        fits = self._fits(name)
        if not fits:
            return False
        matched = self._after(self._state(above), fits) & (self._any if folder else self._files)
        return matched != 0 and self._decides(matched)

    def below(self, path: bytes) -> bool:
        """Whether a folder that holds ``path`` is left out, and ``path`` with it."""
        return bool(self._any) and self._state(path.rpartition(b"/")[0]) == _LEFT_OUT

    def _decides(self, matched: int) -> bool:
        """What the last of the patterns that match says."""
        return self._out >> (matched.bit_length() - 1) & 1 == 1

    def _state(self, folder: bytes) -> int:
        """How far the patterns have come with a folder's path."""
        unknown = []
        while (state := self._states.get(folder)) is None:
            unknown.append(folder)
            folder = folder.rpartition(b"/")[0]
        for folder in reversed(unknown):
            if state != _LEFT_OUT:
                state = self._after(state, self._fits(folder.rpartition(b"/")[2]))
                matched = state & self._any
                state = _LEFT_OUT if matched and self._decides(matched) else state
            self._states[folder] = state
        return state


def fault(pattern: str) -> str:
    """Why a pattern counts for nothing; empty when it is good."""
    try:
        _rule(_coded(pattern))
    except ValueError as error:
        return str(error)
    return ""


def _coded(pattern: str) -> bytes:
    return pattern.encode(errors="surrogateescape")


def _short(line: bytes) -> str:
    text = line.decode(errors="backslashreplace")
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _rule(line: bytes) -> _Rule | None:
    """What a line says; ``None`` for nothing. ValueError: no path can match it."""
    text = _trimmed(line)
    if not text or text.startswith(b"#"):
        return None
    out = not text.startswith(b"!")
    text = text[1:] if not out else text
    folders = text.endswith(b"/")
    text = text.rstrip(b"/")
    if not text:
        return None
    return _Rule(parse(text.lstrip(b"/"), anywhere=b"/" not in text), folders=folders, out=out)


def _trimmed(line: bytes) -> bytes:
    """Without blanks at its end, but for one behind a backslash."""
    text = line.rstrip(b" ")
    backslashes = len(text) - len(text.rstrip(b"\\"))
    return line[: len(text) + 1] if backslashes % 2 else text
