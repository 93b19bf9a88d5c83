"""A moment to go back to, and a world in which effects are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from durable_house import House

import relit
from relit.durable.retry import Retry
from relit.durable.worker import Worker
from relit.store.values import Messages, Rewind, Run

QUICK = Retry(attempts=2, first=0.001, jitter=0)
ALL = ("open", "in_doubt", "done", "failed", "kept")


class Moment:
    """What a snapshot of the agent ``test`` remembers of its journal."""

    def __init__(self, house: House, at_ms: int, runs: dict[str, int]) -> None:
        self._house = house
        self.at_ms = at_ms
        self.runs = runs

    @classmethod
    async def now(cls, house: House) -> Moment:
        store, at_ms = house.store, await house.store.now_ms()
        found = [run.id for run in await store.runs(agent="test", limit=1000) if not run.final]
        runs = {run: max((each.seq for each in await store.steps(run)), default=0) for run in found}
        while await store.now_ms() == at_ms:
            await asyncio.sleep(0)
        return cls(house, at_ms, runs)

    async def back(self, messages: Messages = "keep") -> list[str]:
        wanted = Rewind(agent="test", at_ms=self.at_ms, event="", runs=self.runs, messages=messages)
        return await self._house.store.rewind(wanted)


class World:
    """What really happened."""

    def __init__(self) -> None:
        self.thought: list[str] = []
        self.sent: list[str] = []
        self.keys: list[str] = []
        self.done: dict[str, str] = {}
        self.answers: dict[str, list[str]] = {}
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def think(self, about: str) -> str:
        """A step that may answer something else each time."""
        self.thought.append(about)
        return self.answers[about].pop(0) if self.answers.get(about) else f"{about}!"

    async def block(self) -> None:
        self.entered.set()
        if self.hold is not None:
            await self.hold.wait()

    async def post(self, what: str) -> str:
        self.sent.append(what)
        return f"posted {what} {len(self.sent)}"

    async def pay(self, what: str, *, idempotency_key: str) -> str:
        self.sent.append(what)
        self.keys.append(idempotency_key)
        self.done[idempotency_key] = f"paid {what}"
        await self.block()
        return self.done[idempotency_key]

    async def lookup(self, key: str) -> str | None:
        return self.done.get(key)


def flow(fn: Callable[[relit.Context], Any], name: str = "tells") -> relit.Workflow[Any]:
    return relit.workflow(name=name, agent="test", retry=QUICK)(fn)


async def begun(house: House, target: str = "test/tells") -> str:
    """A run that waits for the signal ``go``."""
    run = await house.engine.start(target)
    await house.until_state(run, "waiting")
    return run


async def kinds(house: House, run: str) -> list[str]:
    return [each.kind for each in await house.store.steps(run)]


async def effects(house: House, run: str) -> list[tuple[str, str]]:
    return sorted((each.pos, each.state) for each in await house.store.effects(run=run, states=ALL))


async def waits_for(house: House, run: str, name: str) -> Run:
    def right(found: Run) -> bool:
        return found.state == "waiting" and found.reason == f"signal {name}"

    return await house.until(run, right)


async def drop(house: House, worker: Worker) -> None:
    """The worker goes away in the middle of whatever it does."""
    await worker.stop()
    house.workers.remove(worker)
