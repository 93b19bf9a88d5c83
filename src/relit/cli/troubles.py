"""What this machine knows of an agent's troubles by itself: its node's files, and how its instances are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from relit.cli.session import Session
from relit.documents import IncidentDetail
from relit.documents.incidents import reported

if TYPE_CHECKING:
    from relit.control.values import InstanceStatus
    from relit.node.status import Running

ILL = ("backing-off", "down", "healing")


def here(session: Session) -> Running | None:
    """What is alive in the data folder; None when another server is asked."""
    if session.flags.get("server") or session.environment.server:
        return None
    from relit.node import status

    place = session.run_dir()
    return None if place is None else status.read(place)


def names_of(session: Session, agent: str) -> list[str]:
    """By which names an agent's troubles are known: its own, and those of the instances that work for it."""
    folder = session.data / "agents"
    notes = folder / agent / "run" / "lives-in"  # left by the workers in whose processes it lives
    owners = [agent, *(sorted(each.name for each in notes.iterdir()) if notes.is_dir() else [])]
    there = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    copies = [each for owner in owners for each in there if each.removeprefix(f"{owner}-").isdecimal()]
    return list(dict.fromkeys([*owners, *copies]))


def written(data: Path, names: list[str]) -> list[IncidentDetail]:
    """What the node wrote down of these, newest first."""
    found = {each.id: each for name in names for each in _read(data / "agents" / name / "incidents")}
    return sorted(found.values(), key=lambda each: (each.opened_at, each.id), reverse=True)


def _read(folder: Path) -> Iterator[IncidentDetail]:
    """Those that can be read: one that was damaged hides no other."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield reported(path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            continue


def status_of(running: Running | None, names: list[str]) -> InstanceStatus | None:
    """How an agent's instance is; of several the one that is worst off."""
    mine = [each for each in running.instances if each.name in names] if running is not None else []
    return min(mine, key=lambda each: (each.state not in ILL, each.state == "ready", each.name), default=None)
