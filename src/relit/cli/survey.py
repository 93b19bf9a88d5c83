"""Looks at everything that ``relit ps`` and ``relit top`` show: the node's record, /proc, the server."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from relit import documents
from relit.cli import roster
from relit.cli.http import Api
from relit.cli.roster import OWN, Known, Memory, Row
from relit.cli.session import Session
from relit.errors import RelitError, ServerUnreachable
from relit.lib import footprint
from relit.node import status

if TYPE_CHECKING:
    from relit.control.values import InstanceStatus
    from relit.node.status import Running

_RUNS_MOST = 200
_NOBODY = status.Running(keeper=None, node=None, instances=[])


class Found(msgspec.Struct, kw_only=True):
    """One look. ``here`` is ``None`` when a server elsewhere is asked; ``own``: what relit's own processes hold."""

    here: Running | None
    rows: list[Row]
    own: dict[str, Memory]
    workers: list[documents.Worker]
    troubles: list[str]
    away: ServerUnreachable | None = None

    @property
    def instances(self) -> list[InstanceStatus]:
        """Of this machine."""
        return self.here.instances if self.here else []


class Survey:
    """``look`` as often as you like. Of the server nothing is asked that would make it work."""

    def __init__(self, session: Session, api: Api, again: str) -> None:
        self._data = session.data
        self._run_dir = None if session.flags.get("server") or session.environment.server else session.run_dir()
        self._api = api
        self._again = again

    def look(self) -> Found:
        """Everything as it is now. Raises what the server says, and ``ServerUnreachable`` when nothing runs here."""
        here = None if self._run_dir is None else status.read(self._run_dir)
        running = here or _NOBODY
        known = Known(instances=running.instances)
        workers: list[documents.Worker] = []
        away = None
        try:
            known.agents = self._api.get("/v1/agents", documents.Agents).agents
            workers = self._api.get("/v1/workers", documents.Workers).workers
            if any(agent.runs.get("running") for agent in known.agents):
                known.runs = self._api.get("/v1/runs", documents.Runs, state="running", limit=_RUNS_MOST).runs
            known.snapshots = self._snapshots()
        except ServerUnreachable as error:
            if not running.instances:
                raise
            away = error
        known.housed = self._housed(running, workers)
        known.memory = _memory(running)
        return Found(
            here=here,
            rows=roster.roster(known),
            own={name: held for name, held in known.memory.items() if name in (*OWN, "node", "keeper")},
            workers=workers,
            troubles=[*_away(away), *roster.troubles(known.agents), *self._ill(here)],
            away=away,
        )

    def _snapshots(self) -> dict[str, int | None]:
        """When the last one of each agent was taken; nothing where the server keeps no volumes, or cannot say now."""
        try:
            found = self._api.get("/v1/volumes", documents.Volumes).volumes
        except ServerUnreachable:
            raise
        except RelitError:
            return {}
        return {each.agent: each.newest_at for each in found}

    def _ill(self, here: Running | None) -> list[str]:
        if here is None:
            return []
        if here.node is None and here.instances:
            return [f"no node keeps the instances alive: {self._again}"]
        return roster.ill(here.instances)

    def _housed(self, here: Running, workers: list[documents.Worker]) -> dict[str, set[str]]:
        """Whose code instances run: as their workers say, or else as notes in agents' folders do."""
        plain = {each.name: each.pid for each in here.instances if not each.agent and each.name not in OWN}
        names = {pid: name for name, pid in plain.items() if pid is not None}
        found: dict[str, set[str]] = defaultdict(set)
        for worker in workers:
            if (name := names.get(worker.pid)) is not None:
                found[name] |= {target.partition("/")[0] for target in worker.targets}
        if rest := plain.keys() - found.keys():
            notes = _notes(self._data / "agents")
            for name in rest:
                found[name] = self._noted(name, notes)
        return found

    def _noted(self, instance: str, notes: dict[str, set[str]]) -> set[str]:
        found: set[str] = set()
        for owner in {instance, roster.owner_of(instance)}:
            found |= notes.get(owner, set())
            if (self._data / "agents" / owner / "home").is_dir():
                found.add(owner)
        return found


def _away(error: ServerUnreachable | None) -> list[str]:
    return [f"{error.what} ({error.why})"] if error else []


def _notes(folder: Path) -> dict[str, set[str]]:
    """By owner, the agents that live in its processes: workers leave notes of that."""
    found: dict[str, set[str]] = defaultdict(set)
    try:
        agents = os.listdir(folder)
    except FileNotFoundError:
        return found
    for agent in agents:
        try:
            owners = os.listdir(folder / agent / "run" / "lives-in")
        except (FileNotFoundError, NotADirectoryError):
            continue  # it has processes of its own
        for owner in owners:
            found[owner].add(agent)
    return found


def _memory(here: Running) -> dict[str, Memory]:
    """What each instance holds, the node and the keeper too."""
    forest = footprint.Forest(footprint.look())
    found = {
        each.name: Memory(bytes=forest.tree(each.pid), limit=footprint.limit(each.pid))
        for each in here.instances
        if each.pid is not None
    }
    for name, pid in (("node", here.node), ("keeper", here.keeper)):
        if pid is not None:
            found[name] = Memory(bytes=forest.alone(pid))
    return found
