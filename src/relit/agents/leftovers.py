"""What an agent's dead processes leave behind, cleared away: its private tmp, stale locks and pid files."""

from __future__ import annotations

import os
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from relit.control.care import Care


def clear(care: Care) -> str:
    """Empty its tmp, and remove what ``care.stale`` names in its home. Only while it is stopped. Answers what was done;
    what could not be removed is named. Links are removed, never followed."""
    kept: list[str] = []
    gone = _empty(Path(care.tmp), kept) if care.tmp else 0
    locks = _stale(care, kept)
    done = f"{gone} things in tmp" + (f", {', '.join(locks)}" if locks else "") + " removed"
    return done + (f"; left, since they could not be: {', '.join(kept)}" if kept else "")


def _empty(folder: Path, kept: list[str]) -> int:
    """Remove all that is in a folder, which stays."""
    count = 0
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return 0
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
            count += 1
        except OSError:
            kept.append(entry.path)
    return count


def _stale(care: Care, kept: list[str]) -> list[str]:
    """Remove files of the home that match; answers their paths."""
    gone: list[str] = []
    if not care.stale or not os.path.isdir(care.home):
        return gone
    for here, _, names, folder in os.fwalk(care.home):
        for name in names:
            path = os.path.relpath(os.path.join(here, name), care.home)
            if any(matches(path, pattern) for pattern in care.stale):
                try:
                    os.unlink(name, dir_fd=folder)
                    gone.append(path)
                except OSError:
                    kept.append(path)
    return sorted(gone)


def matches(path: str, pattern: str) -> bool:
    """As in a shell, but ``*`` stays within a name; ``**/`` is any folder, or none."""
    if pattern.startswith("**/"):
        return fnmatchcase(path.rpartition("/")[2], pattern[3:])
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
