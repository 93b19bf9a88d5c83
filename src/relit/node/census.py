"""Who lives on a node, as the memory semaphore sees them: what each holds, who has something to do, since when not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Literal

import msgspec

from relit.control.values import Activity
from relit.errors import ServerUnreachable
from relit.lib import pageout
from relit.lib.clock import Clock
from relit.lib.footprint import Forest, look
from relit.node.gate import Gate
from relit.node.instance import Instance
from relit.node.oom import rank
from relit.node.parked import is_used
from relit.pressure.shedding import Tenant, line, scores

SWAP = 1.2  # of what somebody holds has to be free there
NEXT = 5  # of those that would go, are told
KNOWN_S = 3.0  # so long an answer is believed
RUNS = ("ready", "working", "idle", "starting")


def agent_of(each: Instance) -> str:
    """Whose it is: of SDK workers the folder of the hold file tells it."""
    hold = Path(each.spec.hold or "")
    return each.status.agent or (hold.parts[-3] if hold.parts[-2:-1] == ("run",) else each.spec.name)


class Census:
    """Of one node. ``at``: seconds of the monotonic clock."""

    def __init__(
        self, clock: Clock, gate: Gate, instances: Callable[[], Iterable[Instance]],
        activity: Callable[[], Awaitable[Activity]],
    ) -> None:  # fmt: skip
        self._clock = clock
        self._gate = gate
        self._instances = instances
        self._activity = activity
        self._pages = pageout.allowed()
        self._asking: asyncio.Task[Activity | None] | None = None
        self._told: dict[tuple[str, int], int] = {}
        self.known: tuple[float, Activity] | None = None
        self.taken_at = 0.0
        self.sizes: dict[str, int] = {}
        self.members: dict[str, set[int]] = {}
        self.next: list[str] = []
        self.busy_at: dict[str, float] = {}  # by agent: when it had something to do
        self.woken_at: dict[str, float] = {}

    def stop(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()

    def ask(self, every_s: float, at: float) -> None:
        """Who has something to do, unless that is known: in a task of its own, the server may be busy, too."""
        fresh = self.known is not None and at - self.known[0] < every_s
        if not fresh and (self._asking is None or self._asking.done()):
            self._asking = asyncio.get_running_loop().create_task(self.learn())

    async def learn(self) -> Activity | None:
        """Ask now. ``None``: the server is away, and nobody is known to be idle."""
        try:
            found = await self._activity()
        except ServerUnreachable:
            return None
        at = self._clock.monotonic()
        spoken = {agent_of(each) for each in self._instances() if each.spec.hold and is_used(each.spec.hold)}
        found = msgspec.structs.replace(found, busy=[*spoken.union(found.busy)])
        for each in self._instances():
            self.busy_at.setdefault(agent_of(each), at)  # nobody knows for how long it has rested
        self.busy_at |= dict.fromkeys(found.busy, at)
        self.known = at, found
        return found

    def tenants(self, at: float) -> list[Tenant]:
        """All that run and could make room. Dear: it looks at every process."""
        forest = Forest(look())
        lives = {each.spec.name: each for each in self._instances() if _counts(each)}
        roots = {name: each.status.pid or 0 for name, each in lives.items()}
        sizes = {name: forest.tree(root) for name, root in roots.items()}
        found = [self._tenant(each, sizes[name], at) for name, each in lives.items()]
        self.sizes, self.taken_at = sizes, at
        self.members = {name: forest.members(root) for name, root in roots.items()}
        self.next = [each.name for each in line(found) if not each.going and not each.frozen][:NEXT]
        self._tell_kernel(found)
        self._forget()
        return found

    def _tenant(self, each: Instance, held: int, at: float) -> Tenant:
        spec, agent = each.spec, agent_of(each)
        assert spec.demand is not None, "it counts"
        known = self.known[1] if self.known is not None and at - self.known[0] <= KNOWN_S else None
        frozen = each.status.state == "frozen"
        return Tenant(
            name=spec.name, priority=spec.demand.priority, resident=held, grown=held - self.sizes.get(spec.name, held),
            cost_s=self._gate.footprint(spec.demand).cpu_s, over=spec.memory is not None and held > spec.memory,
            idle=known is not None and agent not in known.busy and each.status.state != "starting",
            effect=known is not None and agent in known.effects, rested_s=at - self.busy_at.get(agent, at),
            then=self.then(each, held), woken_at=self.woken_at.get(spec.name), frozen=frozen,
            going=each.hold.parked is not None and not frozen,
        )  # fmt: skip

    def then(self, each: Instance, held: int) -> Literal["keep", "freeze", "stop"]:
        """How it would be parked: who cannot go into swap frees nothing by standing still."""
        wanted = each.spec.parking.then
        if wanted != "freeze" or self.fits_swap(held):
            return wanted
        return "stop" if each.spec.parking.wakes else "keep"

    def fits_swap(self, held: int) -> bool:
        """Whether so many bytes can be moved there."""
        return self._pages and pageout.swap_free() >= held * SWAP

    def _tell_kernel(self, tenants: list[Tenant]) -> None:
        """Whom to kill first, should it be faster than we are."""
        told = {(name, pid): score for name, score in scores(tenants).items() for pid in self.members[name]}
        for (name, pid), score in told.items():
            if self._told.get((name, pid)) != score:
                rank(pid, score)
        self._told = told

    def _forget(self) -> None:
        """Those that are gone."""
        names = {each.spec.name for each in self._instances()}
        agents = {agent_of(each) for each in self._instances()}
        self.woken_at = {name: at for name, at in self.woken_at.items() if name in names}
        self.busy_at = {agent: at for agent, at in self.busy_at.items() if agent in agents}


def _counts(each: Instance) -> bool:
    spec, status = each.spec, each.status
    parkable = spec.demand is not None and spec.hold is not None
    return parkable and status.pid is not None and status.state in (*RUNS, "draining", "frozen")
