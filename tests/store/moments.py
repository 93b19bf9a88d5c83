"""A moment that an agent's journal goes back to, and what its runs look like then."""

from __future__ import annotations

from typing import Any

from conformance import (
    MINUTE,
    Time,
    claim,
    effect,
    fence,
    step,
)

from relit.store.base import Store
from relit.store.values import Messages, Rewind, Run, Since

ALL = ("open", "in_doubt", "done", "failed", "kept")


class Moment:
    """A moment of agent ``a``, as a snapshot remembers it."""

    def __init__(self, at_ms: int, event: str, runs: dict[str, int]) -> None:
        self.at_ms = at_ms
        self.event = event
        self.runs = runs

    @classmethod
    async def now(cls, store: Store, time: Time) -> Moment:
        """The present, with a minute between it and all that comes."""
        found = [run for run in await store.runs(agent="a", limit=1000) if not run.final]
        seqs = {run.id: max((each.seq for each in await store.steps(run.id)), default=0) for run in found}
        moment = cls(await store.now_ms(), await store.last_event(), seqs)
        await time.advance(MINUTE)
        return moment

    async def back(self, store: Store, messages: Messages = "keep") -> list[str]:
        wanted = Rewind(agent="a", at_ms=self.at_ms, event=self.event, runs=self.runs, messages=messages)
        return sorted(await store.rewind(wanted))

    async def since(self, store: Store) -> Since:
        return await store.since("a", self.at_ms, self.runs)


async def journal(store: Store, run: str) -> list[tuple[int, str, str]]:
    return [(each.seq, each.kind, each.pos) for each in await store.steps(run)]


async def effects(store: Store, run: str) -> list[tuple[str, str]]:
    return sorted((each.pos, each.state) for each in await store.effects(run=run, states=ALL))


async def act(store: Store, run: Run, seq: int, **options: Any) -> None:
    """An effect with its receipt."""
    pos = str(seq)
    await store.intend(fence(run), effect(run.id, pos, intent_at=await store.now_ms(), **options))
    await store.append(fence(run), [step(seq, kind="effect", name=options.get("name", "pay"), result=b"paid")])


async def again(store: Store, run: str) -> Run:
    """The run, claimed once more."""
    (found,) = [each for each in await claim(store) if each.id == run]
    return found
