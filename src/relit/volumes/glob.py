"""Patterns of gitignore, read name by name. Pure.

Whoever wrote them, they cost little: ``Machine`` goes through the names of a path once, for all patterns together, and
a name is matched by a regular expression that hardly ever goes back. What stands between two stars has a fixed length,
so the first place where it fits leaves the most for what follows: each such piece is an atomic group.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

LONGEST = 1000  # bytes of a pattern
CROSSES = b""  # in place of a name: any number of folders
_STAR, _SLASH = b"*", b"/"  # among pieces; as letters of a name they are escaped
_ANY = b"(?>[^/]*)"
_NAMED = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"!-~",
    b"lower": rb"a-z",
    b"print": rb" -~",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb" \t-\r",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}
_ITEM = re.compile(
    rb"\[:(?P<named>[^]]*):\]|(?P<low>\\.|[^\\])-(?P<high>\\.|[^]\\])|(?P<one>\\.|[^\\])",
    re.DOTALL,
)
_PLAIN = re.compile(rb"(?:\\[^0-9A-Za-z]|[^\\\[\](){}^$.|?*+])+", re.DOTALL)

Names = tuple[bytes, ...]


def parse(glob: bytes, *, anywhere: bool = False) -> Names:
    """What the names of a path must match, one after the other: regular expressions, or ``CROSSES``. ``anywhere``:
    below any folder. ValueError: why no path can match."""
    if len(glob) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} bytes")
    names = [CROSSES] if anywhere else []
    for pieces in _split(_pieces(glob), _SLASH):
        name = CROSSES if len(pieces) > 1 and set(pieces) == {_STAR} else _name(pieces)
        if name != CROSSES or names[-1:] != [CROSSES]:
            names.append(name)
    return (*names, _ANY) if names[-1] == CROSSES else tuple(names)


class Machine:
    """All patterns at once. A state is a set of bits: how far each of them has come. ``ends``: the bit of each that
    says that all of it matched; of a later pattern it is a higher one."""

    def __init__(self, patterns: Iterable[Names]) -> None:
        self.start = self._crosses = 0
        self.ends: list[int] = []
        wanted: dict[bytes, int] = {}
        bit = 1
        for names in patterns:
            self.start |= bit
            for name in names:
                wanted[name] = wanted.get(name, 0) | bit
                bit <<= 1
            self.ends.append(bit)
            bit <<= 1
        self._crosses = wanted.pop(CROSSES, 0)
        self.start |= (self.start & self._crosses) << 1
        self._any = wanted.pop(_ANY, 0)
        self._plain = {_unescaped(name): bits for name, bits in wanted.items() if _PLAIN.fullmatch(name)}
        wild = [(name, bits) for name, bits in wanted.items() if not _PLAIN.fullmatch(name)]
        self._wild = [(_matcher(name), bits) for name, bits in wild]
        self._one_of_wild = _matcher(b"|".join(name for name, _ in wild) or b"(?!)")

    def fits(self, name: bytes) -> int:
        """The bits of all that a name matches. None: no pattern can end with it."""
        bits = self._any | self._plain.get(name, 0)
        if self._one_of_wild(name):
            for matches, more in self._wild:
                if matches(name):
                    bits |= more
        return bits

    def after(self, state: int, fits: int) -> int:
        """The state one name further."""
        after = (state & fits) << 1 | state & self._crosses
        return after | (after & self._crosses) << 1


def _matcher(choices: bytes) -> Callable[[bytes], object]:
    return re.compile(b"(?:" + choices + rb")\Z", re.DOTALL).match


def _unescaped(name: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", name, flags=re.DOTALL)


def _name(pieces: Sequence[bytes]) -> bytes:
    """One name. Only the last star may try several lengths."""
    if not pieces:
        raise ValueError("a name in it is empty")
    first, *further = (b"".join(each) for each in _split(pieces, _STAR))
    if not further:
        return first
    *between, last = further
    middle = (b"(?>[^/]*?" + each + b")" for each in between if each)
    return b"(?>" + first + b"".join(middle) + b"[^/]*" + last + b")"


def _split(pieces: Sequence[bytes], at: bytes) -> list[list[bytes]]:
    found: list[list[bytes]] = [[]]
    for is_cut, some in groupby(pieces, lambda piece: piece == at):
        if is_cut:
            found += [[] for _ in some]
        else:
            found[-1] = list(some)
    return found


def _pieces(glob: bytes) -> list[bytes]:
    """Stars, slashes, and regular expressions of one letter each."""
    found = []
    at = 0
    while at < len(glob):
        letter = glob[at : at + 1]
        at += 1
        if letter == b"[":
            piece, at = _letters(glob, at)
        elif letter == b"\\":
            piece, at = _escaped(glob[at : at + 1]), at + 1
        else:
            piece = b"[^/]" if letter == b"?" else letter if letter == _STAR else re.escape(letter)
        found.append(piece)
    return found


def _escaped(letter: bytes) -> bytes:
    if not letter:
        raise ValueError("it ends with a backslash")
    return re.escape(letter)


def _letters(glob: bytes, at: int) -> tuple[bytes, int]:
    """A set of letters that begins there, and where it has ended. It never holds a slash."""
    opens = b"(?!/)["
    if glob[at : at + 1] in (b"!", b"^"):
        opens, at = b"[^/", at + 1
    items: list[bytes] = []
    while not items or glob[at : at + 1] != b"]":
        item = _ITEM.match(glob, at)
        if item is None:
            raise ValueError("its [ is never closed")
        items.append(_item(item))
        at = item.end()
    return opens + b"".join(items) + b"]", at + 1


def _item(item: re.Match[bytes]) -> bytes:
    if (named := item["named"]) is not None:
        if named not in _NAMED:
            raise ValueError(f"there are no letters called {named.decode(errors='backslashreplace')}")
        return _NAMED[named]
    if item["one"] is not None:
        return b"\\x%02x" % ord(item["one"][-1:])
    low, high = ord(item["low"][-1:]), ord(item["high"][-1:])
    if low > high:
        raise ValueError(f"{item[0].decode(errors='backslashreplace')} is no range: it runs backwards")
    return b"\\x%02x-\\x%02x" % (low, high)
