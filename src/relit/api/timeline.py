"""The journal's side of going back: what happened since, and bringing the journal back with the files."""

from __future__ import annotations

from relit import documents
from relit.documents import Messages
from relit.manifest import Snapshot
from relit.store.base import Store
from relit.store.values import EffectState, Rewind, Run

_CALLS_MOST = 1000  # newest ones that are looked through


class JournalTimeline:
    """Over the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def since(
        self, agent: str, to: Snapshot, messages: Messages | None
    ) -> tuple[list[documents.SinceEffect], list[documents.SinceMessage]]:
        """Effects that were sent, and runs that came or went on, after that snapshot; oldest first."""
        found = await self._store.since(agent, to.at_ms, to.position.runs)
        effects = [
            documents.SinceEffect(run=each.run, pos=each.pos, name=each.name, state=each.state, at=each.intent_at)
            for each in found.effects
        ]
        effects += await self._tools(agent, to.at_ms)
        gone = {run.id: found.steps[run.id] for run in found.runs if messages and _goes_back(run, messages)}
        runs = [
            documents.SinceMessage(run=run.id, state=run.state, at=run.created_at, superseded=gone.get(run.id, 0))
            for run in found.runs
        ]
        return effects, runs

    async def _tools(self, agent: str, at_ms: int) -> list[documents.SinceEffect]:
        """Calls to tools that write, of an agent without an SDK."""
        states: dict[str, EffectState] = {"done": "done", "open": "open", "in_doubt": "in_doubt"}
        calls = await self._store.tools.of_agent(agent, _CALLS_MOST)
        return [
            documents.SinceEffect(run=each.run or each.id, pos="", name=each.tool, state=states[each.state], at=at)
            for each in reversed(calls)
            if each.state in states and each.effect != "read" and (at := each.sent_at or each.started_at) > at_ms
        ]

    async def rewind(self, agent: str, to: Snapshot, messages: Messages) -> None:
        """The agent stands still meanwhile."""
        position = to.position
        await self._store.rewind(
            Rewind(agent=agent, at_ms=to.at_ms, event=position.event, runs=position.runs, messages=messages)
        )


def _goes_back(run: Run, messages: Messages) -> bool:
    return not run.final or messages == "redeliver"
