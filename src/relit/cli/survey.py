"""Looks at everything that ``relit ps`` and ``relit top`` show: the node's record, /proc, the server."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from relit import documents
from relit.cli import roster
from relit.cli.http import Api, segment
from relit.cli.roster import OWN, TOOLS, Known, Memory, Row
from relit.cli.session import Session
from relit.errors import NotFound, RelitError, ServerUnreachable
from relit.lib import footprint
from relit.lib.clock import SYSTEM_CLOCK
from relit.node import gauge, status
from relit.node.gauge import Gauge

if TYPE_CHECKING:
    from relit.control.values import InstanceStatus
    from relit.node.status import Running

_RUNS_MOST = 200
_STEPS_MOST = 30  # agents whose last step is asked for
_MEMORY_EVERY = 2  # looks: going through /proc is the dearest part of one
_NOBODY = status.Running(keeper=None, node=None, instances=[])


class Found(msgspec.Struct, kw_only=True):
    """One look. ``here`` is ``None`` when a server elsewhere is asked; ``own``: what relit's own processes hold;
    ``asks``: what waits for a person."""

    here: Running | None
    rows: list[Row]
    own: dict[str, Memory]
    workers: list[documents.Worker]
    troubles: list[str]
    asks: list[str] = []
    away: ServerUnreachable | None = None
    memory: Gauge | None = None

    @property
    def instances(self) -> list[InstanceStatus]:
        """Of this machine."""
        return self.here.instances if self.here else []


class Survey:
    """``look`` as often as you like: of the server nothing is asked that would make it work. What changes slowly
    (workers, snapshots, memory limits) is looked at again once in ``slow`` looks."""

    def __init__(self, session: Session, api: Api, again: str, *, slow: int = 1) -> None:
        self._data = session.data
        self._run_dir = None if session.flags.get("server") or session.environment.server else session.run_dir()
        self._api = api
        self._again = again
        self._slow = slow
        self._looks = 0
        self._workers: list[documents.Worker] = []
        self._snapshots: dict[str, int | None] = {}
        self._limits: dict[int, int | None] = {}
        self._held: dict[str, Memory] = {}
        self._asks: list[str] = []
        self._costs: dict[str, float] = {}

    def look(self) -> Found:
        """Everything as it is now. Raises what the server says, and ``ServerUnreachable`` when nothing runs here."""
        here = None if self._run_dir is None else status.read(self._run_dir)
        running = here or _NOBODY
        known = Known(instances=running.instances)
        away = None
        if again := self._looks % self._slow == 0:
            self._limits = {}
        if again or self._looks % _MEMORY_EVERY == 0:
            self._held = self._memory(running)
        try:
            self._ask(known, again)
            self._looks += 1
        except ServerUnreachable as error:
            if not running.instances:
                raise
            away, self._looks = error, 0
        known.housed = self._housed(running)
        known.memory = self._held
        return Found(
            here=here,
            rows=roster.roster(known),
            own={name: held for name, held in known.memory.items() if name in (*OWN, "node", "keeper")},
            workers=self._workers,
            troubles=[*_away(away), *roster.troubles(known.agents), *self._ill(here)],
            asks=self._asks,
            memory=None if self._run_dir is None else gauge.read(self._run_dir, SYSTEM_CLOCK.now_ms()),
            away=away,
        )

    def _asked(self) -> list[str]:
        """What waits for a person."""
        calls = self._api.get("/v1/tools/calls", documents.ToolCalls, state=["held", "in_doubt"]).calls
        held = sum(each.state == "held" for each in calls)
        doubtful = len(calls) - held
        return [
            *([f"calls to tools that wait for your word: {held}. next: relit approvals"] if held else []),
            *([f"calls to tools that may have happened: {doubtful}. next: relit effects"] if doubtful else []),
        ]

    def _ask(self, known: Known, again: bool) -> None:
        known.agents = [each for each in self._api.get("/v1/agents", documents.Agents).agents if each.name != TOOLS]
        if any(agent.runs.get("running") for agent in known.agents):
            known.runs = self._api.get("/v1/runs", documents.Runs, state="running", limit=_RUNS_MOST).runs
        if again:
            self._workers = self._api.get("/v1/workers", documents.Workers).workers
            self._snapshots = self._newest()
            self._asks = self._asked()
            self._costs = self._spent()
        known.snapshots, known.costs = self._snapshots, self._costs
        known.steps = self._steps(known.runs)

    def _spent(self) -> dict[str, float]:
        """What each agent's calls to models have cost today."""
        found: dict[str, float] = defaultdict(float)
        for each in self._api.get("/v1/usage", documents.UsageReport, days=1).usage:
            found[each.agent] += each.cost
        return found

    def _steps(self, runs: Sequence[documents.Run]) -> dict[str, documents.Step]:
        """The last step of what each agent works on; of a run that is gone meanwhile, none."""
        found = {}
        for turn in [*roster.turns_of(runs).values()][:_STEPS_MOST]:
            with contextlib.suppress(NotFound):
                path = f"/v1/runs/{segment(turn.run)}/journal"
                for step in self._api.get(path, documents.Steps, last=True, limit=1, payloads="none").steps:
                    found[turn.run] = step
        return found

    def _newest(self) -> dict[str, int | None]:
        """When the last snapshot of each agent was taken; nothing where the server keeps no volumes, or cannot say."""
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

    def _housed(self, here: Running) -> dict[str, set[str]]:
        """Whose code instances run: as their workers say, or else as notes in agents' folders do."""
        plain = {each.name: each.pid for each in here.instances if not each.agent and each.name not in OWN}
        names = {pid: name for name, pid in plain.items() if pid is not None}
        found: dict[str, set[str]] = defaultdict(set)
        for worker in self._workers:
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

    def _memory(self, here: Running) -> dict[str, Memory]:
        """What each instance holds, the node and the keeper too."""
        forest = footprint.Forest(footprint.look())
        found = {
            each.name: Memory(bytes=forest.tree(each.pid), limit=each.memory or self._limit(each.pid))
            for each in here.instances
            if each.pid is not None
        }
        for name, pid in (("node", here.node), ("keeper", here.keeper)):
            if pid is not None:
                found[name] = Memory(bytes=forest.alone(pid))
        return found

    def _limit(self, pid: int) -> int | None:
        if pid not in self._limits:
            self._limits[pid] = footprint.limit(pid)
        return self._limits[pid]


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
