"""What the server does with a node's words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from relit.api.volumes_port import Volumes
from relit.app import rescue
from relit.app.trying import Trying
from relit.control.care import ConfigFile, Incident, KnownGood, Tried, Went
from relit.control.values import Activity, Death, Desired, Load, Measured, NodeInfo
from relit.documents.postmortem import one_line
from relit.durable.peers import reap
from relit.errors import Conflict
from relit.events import Event
from relit.store import values
from relit.store.base import Store


class StoreBackend:
    """``ControlBackend`` on the store. Nodes decide by their settings what runs: nothing further is wanted of them.
    ``owners``: in whose processes an agent lives, itself included."""

    def __init__(
        self, store: Store, poison_after: int, volumes: Volumes, trying: Trying,
        owners: Callable[[str], Sequence[str]] = lambda agent: [agent],
    ) -> None:  # fmt: skip
        self._store = store
        self._owners = owners
        self._volumes = volumes
        self._trying = trying
        self._poison_after = poison_after
        self.nodes: dict[str, NodeInfo] = {}

    async def hello(self, node: NodeInfo) -> None:
        """Remember who said it."""
        self.nodes[node.name] = node

    async def report(self, events: Sequence[Event]) -> None:
        """Into the store, where everybody follows them."""
        await self._store.record(events)

    async def desired(self, version: int, wait_s: float) -> Desired:
        """Never anything new: answer when the caller's patience ends."""
        await asyncio.sleep(wait_s)
        return Desired(version=version)

    async def worker_died(self, death: Death) -> None:
        """Take the dead process's runs back now."""
        for worker in await self._store.workers():
            if (worker.pid, worker.start, worker.boot) == (
                death.process.pid, death.process.start, death.process.boot
            ):  # fmt: skip
                await reap(self._store, worker.id, True, self._poison_after)

    async def incident(self, incident: Incident) -> None:
        """Into the store, which knows whether it is news. Who is to be told of it is told by the server's alerts."""
        await self._store.put_incident(kept(incident))

    async def known_good(
        self, agent: str, files: Sequence[ConfigFile] = (), *, broken: bool = False, before: Sequence[str] = ()
    ) -> KnownGood:
        """Asks the process that keeps the volumes."""
        found = await rescue.known_good(self._volumes, agent, files, broken=broken, before=before)
        return msgspec.structs.replace(found, clones=bool(found.older or found.others) and self._trying.can(agent))

    async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
        """Asks the process that keeps the volumes, as a person's restore does. Conflict while a person has stopped
        it."""
        if self._trying.held(agent):
            raise Conflict(f"the home of {agent} stays as it is", why="a person has stopped it", fix="relit agent ls")
        return await rescue.go_back(self._volumes, agent, number, files)

    async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
        """In a clone that this server starts."""
        return await self._trying.try_home(agent, number, within_ms)

    async def mark_good(self, agent: str) -> int:
        """Asks the process that keeps the volumes."""
        return await rescue.mark_good(self._volumes, agent)

    async def activity(self) -> Activity:
        """By their runs, and by calls that their gateway has under way."""
        loads: dict[str, Load] = {}
        for target, (ready, running) in (await self._store.to_do()).items():
            for owner in self._owners(target.partition("/")[0]):
                known = loads.get(owner, Load(0, 0))
                loads[owner] = Load(known.ready + ready, known.running + running)
        calls = {call.agent for call in await self._store.calls.open_calls()}
        effects = {call.agent for call in await self._store.tools.waiting(["open", "approved"])}
        calls |= effects
        return Activity(busy=sorted(calls.union(loads)), calls=sorted(calls), effects=sorted(effects), loads=loads)

    async def footprints(self, learnt: Sequence[Measured]) -> list[Measured]:
        """The store has them."""
        if learnt:
            await self._store.put_footprints([_footprint(each) for each in learnt])
        return [
            Measured(of=each.what, peak=each.peak, settled=each.settled, cpu_s=each.cpu_s, seen=each.seen)
            for each in await self._store.footprints()
        ]


def _footprint(each: Measured) -> values.Footprint:
    return values.Footprint(what=each.of, peak=each.peak, settled=each.settled, cpu_s=each.cpu_s, seen=each.seen)


def kept(incident: Incident) -> values.Incident:
    """A node's report as the store keeps it. A timeline only grows (until it is as long as its node lets it be: then
    the report that comes last holds), so its length tells which of two reports is the newer one."""
    return values.Incident(
        id=incident.id,
        agent=incident.agent,
        instance=incident.instance,
        opened_at=incident.opened_ms,
        resolved_at=incident.resolved_ms,
        severity=incident.severity,
        rung=incident.rung,
        group=incident.group,
        title=one_line(incident.title),
        rev=len(incident.timeline),
        document=msgspec.json.encode(incident),
    )
