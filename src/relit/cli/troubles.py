"""What a node wrote down of troubles on this machine, for when no server answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from relit.cli.roster import owner_of
from relit.documents import IncidentDetail
from relit.documents.incidents import reported
from relit.lib.names import AGENT


def names_of(data: Path, agent: str, instances: Iterable[str] = ()) -> list[str]:
    """By which names an agent's troubles are known: its own, and those of the instances that work for it."""
    if not re.fullmatch(AGENT, agent):
        return [agent]
    folder = data / "agents"
    notes = folder / agent / "run" / "lives-in"  # left by the workers in whose processes it lives
    owners = [agent, *(sorted(each.name for each in notes.iterdir()) if notes.is_dir() else [])]
    there = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    copies = [each for each in there if owner_of(each) in owners]
    return list(dict.fromkeys([*owners, *copies, *instances]))


def written(data: Path, names: Iterable[str]) -> list[IncidentDetail]:
    """What the node wrote down of these, newest first."""
    found = {each.id: each for name in names for each in _read(data / "agents" / name / "incidents")}
    return sorted(found.values(), key=lambda each: (each.opened_at, each.id), reverse=True)


def _read(folder: Path) -> Iterator[IncidentDetail]:
    """Those that can be read: one that is damaged hides no other."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield reported(path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            continue
