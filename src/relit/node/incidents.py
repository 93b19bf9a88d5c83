"""The node's incidents: written to its disk and told to the server whenever they change. Never in the way of a start.

Those that begin together have one cause outside of the instances: they are grouped, so that a person is told once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from relit.control.care import Incident
from relit.node.trouble import save

TOGETHER, TOGETHER_MS = 3, 2_000  # so many that begin within that are one
LINES = 60  # of the log
GATHER_S = 0.05  # changes that come together are written together
log = logging.getLogger("relit.node")


class Tails(Protocol):
    """Where the last lines of an instance's log come from, with nothing in them that must not be told."""

    async def drained(self, instance: str) -> None: ...

    def tail(self, instance: str, lines: int) -> list[str]: ...


class Incidents:
    """``report`` tells the server: it keeps trying by itself."""

    def __init__(self, report: Callable[[Incident], None], tails: Tails | None = None) -> None:
        self._report = report
        self._tails = tails
        self._changed: dict[str, tuple[Incident, Path | None]] = {}
        self._openings: list[tuple[int, str]] = []
        self._groups: dict[str, str] = {}
        self._logs: dict[str, tuple[tuple[int, str], list[str]]] = {}  # as of which rung and cause
        self._news = asyncio.Event()

    def change(self, incident: Incident, folder: str) -> None:
        """An incident is new, or says something new."""
        if not any(each == incident.id for _, each in self._openings):
            self._openings = [*self._openings, (incident.opened_ms, incident.id)][-1000:]
        self._changed[incident.id] = (incident, Path(folder) if folder else None)
        self._news.set()

    async def run(self) -> None:
        """Write and report, for ever."""
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_S)
            await self.flush()

    async def flush(self) -> None:
        """Everything that has changed until now."""
        self._news.clear()
        changed, self._changed = self._changed, {}
        for incident, folder in changed.values():
            whole = await self._completed(incident)
            if folder is not None:
                try:
                    await asyncio.to_thread(save, folder, whole)
                except OSError as error:  # a full disk: the server is told all the same
                    log.error("the incident %s was not written to %s: %s", whole.id, folder, error)
            self._report(whole)
            if whole.resolved_ms is not None:
                self._logs.pop(whole.id, None)
                self._groups.pop(whole.id, None)

    async def _completed(self, incident: Incident) -> Incident:
        """With the end of the log as it was when it began or has become worse, and its group."""
        known = self._logs.get(incident.id)
        if known is None or (known[0] != (incident.rung, incident.cause) and incident.resolved_ms is None):
            lines = await self._last_lines(incident)
            self._logs[incident.id] = known = (incident.rung, incident.cause), lines
        self._group()
        return msgspec.structs.replace(incident, log=known[1], group=self._groups.get(incident.id, incident.group))

    async def _last_lines(self, incident: Incident) -> list[str]:
        if self._tails is None or incident.log:
            return incident.log
        await self._tails.drained(incident.instance)
        return self._tails.tail(incident.instance, LINES)

    def _group(self) -> None:
        for group in together(self._openings):
            name = f"node-{group[0]}"
            for each in group:
                self._groups.setdefault(each, name)


def together(openings: Sequence[tuple[int, str]]) -> list[list[str]]:
    """Ids of incidents that began within ``TOGETHER_MS`` of the first of them, when they are many enough. Pure."""
    groups: list[list[str]] = []
    first = 0
    for at, each in sorted(openings):
        if groups and at - first <= TOGETHER_MS:
            groups[-1].append(each)
        else:
            groups.append([each])
            first = at
    return [group for group in groups if len(group) >= TOGETHER]
