"""Agents as one list: what the node says of processes and what the server says of work, put together. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from relit import documents
from relit.control.values import InstanceStatus

OWN = ("server", "volumes", "turns", "functions", "gateway", "front")
TOOLS = "relit-tools"  # whose workflows tools that are functions are: nobody's agent
ILL = ("down", "healing", "backing-off")
_WELL = ("ready", "working", "idle")
# Of several processes of one agent the one in the worst state is shown.
_WORST = ("down", "healing", "backing-off", "draining", "starting", "frozen", "working", "ready", "idle", "stopped")


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent works on: its oldest run that is running. ``since``: ms since 1970; ``step``: the name of the last
    step that it has done, the ``number``-th."""

    run: str
    since: int
    others: int = 0
    step: str = ""
    number: int = 0


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that an instance's processes hold, and may hold at most."""

    bytes: int
    limit: int | None = None


class Row(msgspec.Struct, kw_only=True):
    """One agent. ``reason``: why it is not simply ready; ``failed`` and the counts before it are of its runs. ``cost``:
    of its calls to models today (UTC), in US dollars, where it is known."""

    agent: str
    state: str
    workers: int = 0
    running: int = 0
    queued: int = 0
    waiting: int = 0
    parked: int = 0
    dead: int = 0
    completed: int = 0
    failed: int = 0
    kind: str = ""
    instances: list[str] = []
    pids: list[int] = []
    restarts: int = 0
    since: int | None = None
    turn: Turn | None = None
    memory: int | None = None
    limit: int | None = None
    snapshot_at: int | None = None
    cost: float | None = None
    reason: str = ""
    last_exit: str = ""
    retry_at: int | None = None


class Known(msgspec.Struct, kw_only=True):
    """What was found out. ``housed``: by instance, the agents whose code it runs; ``steps``: the last one of each run.
    The server's part may be empty."""

    instances: Sequence[InstanceStatus] = ()
    housed: Mapping[str, Collection[str]] = {}
    memory: Mapping[str, Memory] = {}
    agents: Sequence[documents.Agent] = ()
    runs: Sequence[documents.Run] = ()
    costs: Mapping[str, float] = {}
    steps: Mapping[str, documents.Step] = {}
    snapshots: Mapping[str, int | None] = {}


def roster(known: Known) -> list[Row]:
    """All agents, by name."""
    told = {each.name: each for each in known.agents}
    mine = _by_agent(known, told)
    turns = {name: _stepped(turn, known.steps.get(turn.run)) for name, turn in turns_of(known.runs).items()}
    return [
        _row(name, told.get(name), mine.get(name, []), turns.get(name), known)
        for name in sorted(told.keys() | mine.keys())
    ]


def _by_agent(known: Known, told: Collection[str]) -> dict[str, list[InstanceStatus]]:
    """The instances of each agent. One that runs no known agent's code stands for itself."""
    found: dict[str, list[InstanceStatus]] = {}
    for each in known.instances:
        if each.name in OWN:
            continue
        for agent in _agents_of(each, known, told):
            found.setdefault(agent, []).append(each)
    return found


def _agents_of(instance: InstanceStatus, known: Known, told: Collection[str]) -> Iterable[str]:
    if instance.agent:
        return [instance.agent]
    if housed := known.housed.get(instance.name):
        return housed
    owner = owner_of(instance.name)
    return [owner] if owner in told else [instance.name]


def owner_of(instance: str) -> str:
    """What an instance is a copy of: ``clerk-2`` is one of ``clerk``."""
    name, _, number = instance.rpartition("-")
    return name if name and number.isdecimal() else instance


def turns_of(runs: Iterable[documents.Run]) -> dict[str, Turn]:
    """What each agent works on."""
    found: dict[str, Turn] = {}
    for run in runs:
        begun, seen = run.started_at or run.created_at, found.get(run.agent)
        others = seen.others + 1 if seen else 0
        if seen is not None and seen.since <= begun:
            found[run.agent] = msgspec.structs.replace(seen, others=others)
        else:
            found[run.agent] = Turn(run=run.id, since=begun, others=others)
    return found


def _stepped(turn: Turn, step: documents.Step | None) -> Turn:
    return turn if step is None else msgspec.structs.replace(turn, step=step.name or step.kind, number=step.seq)


def _row(
    name: str, agent: documents.Agent | None, mine: Sequence[InstanceStatus], turn: Turn | None, known: Known
) -> Row:
    worst = min(mine, key=lambda each: _WORST.index(each.state), default=None)
    held = [known.memory[each.name] for each in mine if each.name in known.memory]
    return Row(
        agent=name,
        state=_state(agent, worst),
        workers=agent.workers if agent else 0,
        **_counts(agent),
        kind="" if worst is None else worst.kind or "python",
        instances=[each.name for each in mine],
        pids=[each.pid for each in mine if each.pid is not None],
        restarts=sum(each.restarts for each in mine),
        since=worst.since_ms or None if worst else None,
        turn=turn,
        memory=sum(each.bytes for each in held) if held else None,
        limit=_limit(held),
        snapshot_at=known.snapshots.get(name),
        cost=known.costs.get(name),
        reason=_reason(agent, worst),
        last_exit=worst.last_exit if worst else "",
        retry_at=worst.retry_at_ms if worst else None,
    )


def _counts(agent: documents.Agent | None) -> dict[str, Any]:
    runs = agent.runs if agent else {}
    return {
        "running": runs.get("running", 0),
        "queued": runs.get("available", 0) + runs.get("scheduled", 0),
        "waiting": runs.get("waiting", 0),
        "parked": runs.get("parked", 0),
        "dead": runs.get("discarded", 0),
        "completed": runs.get("completed", 0),
        "failed": runs.get("failed", 0),
    }


def _limit(held: Sequence[Memory]) -> int | None:
    limits = [each.limit for each in held if each.limit is not None]
    return sum(limits) if limits and len(limits) == len(held) else None


def _state(agent: documents.Agent | None, worst: InstanceStatus | None) -> str:
    """The process's state as long as it is not well; else what its work says."""
    if worst is None:
        return state_of(agent) if agent else "stopped"
    if worst.state not in _WELL or agent is None or not (agent.workers or _paused(agent)):
        return worst.state
    return state_of(agent)


def state_of(agent: documents.Agent) -> str:
    """An agent's state, of which the server alone is asked."""
    if _paused(agent):
        return "paused"
    if not agent.workers:
        return "down" if unfinished(agent) else "stopped"
    return "working" if agent.runs.get("running") else "idle"


def _paused(agent: documents.Agent) -> bool:
    return agent.mailbox is not None and agent.mailbox.paused


def unfinished(agent: documents.Agent) -> int:
    """Runs that wait for a worker."""
    return sum(agent.runs.get(state, 0) for state in ("available", "scheduled", "running", "waiting"))


def _reason(agent: documents.Agent | None, worst: InstanceStatus | None) -> str:
    if worst is not None and (worst.reason or worst.state not in _WELL):
        return worst.reason or worst.last_exit
    if agent is None:
        return ""
    if _paused(agent):
        return f"its mailbox is paused: relit mailbox resume {agent.name}"
    said = []
    if not agent.workers and (left := unfinished(agent)):
        said.append(f"{left} unfinished, no worker")
    if parked := agent.runs.get("parked"):
        said.append(f"{parked} parked")
    if dead := agent.runs.get("discarded"):
        said.append(f"{dead} dead {'letter' if dead == 1 else 'letters'}")
    return ", ".join(said)


# --- troubles --------------------------------------------------------------------------------------------------


def troubles(agents: Iterable[documents.Agent]) -> list[str]:
    """What of their work needs a person, each with the command to run."""
    return [trouble for agent in agents for trouble in _troubles(agent)]


def _troubles(agent: documents.Agent) -> list[str]:
    found = []
    if not agent.workers and (left := unfinished(agent)):
        found.append(f"{agent.name}: {left} unfinished runs and no worker: relit up, or relit worker MODULE")
    if parked := agent.runs.get("parked"):
        found.append(f"{agent.name}: {parked} parked: relit runs --agent {agent.name} --state parked")
    if dead := agent.runs.get("discarded"):
        found.append(f"{agent.name}: {dead} dead letters: relit requeue --agent {agent.name}")
    return found


def ill(instances: Iterable[InstanceStatus]) -> list[str]:
    """Instances that are not as they should be."""
    return [f"{each.name} is {each.state}: {each.last_exit or each.reason}" for each in instances if each.state in ILL]
