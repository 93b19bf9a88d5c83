"""What a snapshot leaves out: caches and locks of an agent's kind, what ``.relitignore`` says, ``-shm`` files. Pure.

Patterns are those of gitignore: ``*`` and ``?`` stay within a name, ``**`` crosses folders, a slash anywhere but at
the end anchors at the home, a slash at the end means folders only, ``!`` takes back. The last pattern that matches
decides; what lies in a folder that is left out cannot be taken back. ``*-shm`` is never part of a snapshot: it is
rebuilt from the database, and an old one beside a new database is harmful.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

NAME = b".relitignore"
KINDS: dict[str, tuple[str, ...]] = {
    "openclaw": ("state/cache/**", "state/tmp/**", "state/logs/**", "**/*.lock.sqlite", "state/plugin-skills/**"),
    "hermes": (
        "logs/**",
        "gateway.pid",
        "gateway.lock",
        "**/*.lock",
        "gateway_state.json",
        "state/gateway.heartbeat",
        "sandboxes/**",
        "image_cache/**",
        "audio_cache/**",
    ),
}
_SHM = b"-shm"


class _Rule(NamedTuple):
    match: re.Pattern[bytes]
    out: bool
    folders: bool


class Ignore:
    """``patterns`` first, then the lines of ``.relitignore``."""

    def __init__(self, patterns: Iterable[str] = (), text: bytes = b"") -> None:
        lines = [pattern.encode() for pattern in patterns] + text.splitlines()
        self._rules = [rule for line in lines if (rule := _rule(line)) is not None]
        self._folders: dict[bytes, bool] = {b"": False}

    def leaves_out(self, path: bytes, folder: bool) -> bool:
        """Whether that very path is left out, its parents aside."""
        if path.endswith(_SHM) and not folder:
            return True
        out = False
        for rule in self._rules:
            if (folder or not rule.folders) and rule.match.fullmatch(path):
                out = rule.out
        return out

    def below(self, path: bytes) -> bool:
        """Whether a folder that holds ``path`` is left out, and ``path`` with it."""
        unknown = []
        folder = path.rpartition(b"/")[0]
        while folder not in self._folders:
            unknown.append(folder)
            folder = folder.rpartition(b"/")[0]
        out = self._folders[folder]
        for folder in reversed(unknown):
            out = self._folders[folder] = out or self.leaves_out(folder, True)
        return out


def of_kind(kind: str, extra: Iterable[str] = ()) -> tuple[str, ...]:
    """The patterns of an agent's kind, and further ones."""
    return (*KINDS.get(kind, ()), *extra)


def biggest(sizes: Mapping[bytes, int], count: int = 10) -> list[tuple[bytes, int]]:
    """The biggest files of a home, biggest first."""
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:count]


def _rule(line: bytes) -> _Rule | None:
    text = line.rstrip(b"\r")
    if not text.endswith(b"\\ "):
        text = text.rstrip(b" ")
    if not text or text.startswith(b"#"):
        return None
    out = not text.startswith(b"!")
    text = text[1:] if not out else text
    folders = text.endswith(b"/")
    text = text.rstrip(b"/")
    if not text:
        return None
    anchored = b"/" in text
    body = _translate(text.lstrip(b"/"))
    return _Rule(re.compile(body if anchored else b"(?:.*/)?" + body, re.DOTALL), out, folders)


def _translate(glob: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while at < len(glob):
        piece, at = _piece(glob, at)
        parts.append(piece)
    return b"".join(parts)


def _piece(glob: bytes, at: int) -> tuple[bytes, int]:
    """The regular expression of the next piece of a glob, and where the one after it begins."""
    if glob.startswith(b"**/", at) and (at == 0 or glob[at - 1 : at] == b"/"):
        return b"(?:.*/)?", at + 3
    if glob.startswith(b"**", at) and at + 2 == len(glob):
        return b".+", at + 2
    letter = glob[at : at + 1]
    if letter == b"*":
        return b"[^/]*", at + (2 if glob.startswith(b"**", at) else 1)
    if letter == b"?":
        return b"[^/]", at + 1
    if letter == b"[" and (end := glob.find(b"]", at + 2)) != -1:
        inner = glob[at + 1 : end].replace(b"\\", b"\\\\")
        inner = b"^/" + inner[1:] if inner[:1] in (b"!", b"^") else inner
        return b"[" + inner.replace(b"[", b"\\[") + b"]", end + 1
    if letter == b"\\" and at + 1 < len(glob):
        return re.escape(glob[at + 1 : at + 2]), at + 2
    return re.escape(letter), at + 1
