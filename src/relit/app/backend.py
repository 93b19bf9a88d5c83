"""What the server does with a node's words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relit.api.volumes_port import Volumes
from relit.app import rescue
from relit.control.care import Incident, KnownGood, Went
from relit.control.values import Death, Desired, NodeInfo
from relit.durable.peers import reap
from relit.events import Event
from relit.store.base import Store


class StoreBackend:
    """``ControlBackend`` on the store. Nodes decide by their settings what runs: nothing further is wanted of them."""

    def __init__(self, store: Store, poison_after: int, volumes: Volumes) -> None:
        self._store = store
        self._volumes = volumes
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
        """Into the event log."""
        name = "incident.resolved" if incident.resolved_ms else "incident.opened"
        data = {"incident": incident.id, "title": incident.title, "severity": incident.severity, "rung": incident.rung}
        await self._store.record([Event("", 0, name, agent=incident.agent, data=data)])

    async def known_good(self, agent: str, files: Sequence[str] = ()) -> KnownGood:
        """Asks the process that keeps the volumes."""
        return await rescue.known_good(self._volumes, agent, files)

    async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
        """Asks the process that keeps the volumes, as a person's restore does."""
        return await rescue.go_back(self._volumes, agent, number, files)

    async def mark_good(self, agent: str) -> int:
        """Asks the process that keeps the volumes."""
        return await rescue.mark_good(self._volumes, agent)
