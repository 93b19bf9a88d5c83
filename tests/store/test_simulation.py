"""Workers under clocks that jump and pause, in a random but repeatable order, on the real store.

Each worker is an actor that believes what it last heard. Whatever order things happen in: a step is recorded once,
by the newest claim; a run ends once; no two live claims exist; and once the noise stops, everything completes.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random

import pytest

from relit.errors import Fenced
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Fence, Finish, NewRun, Step, Wait, WorkerInfo
from relit.store.wakeups import Wakeups

LEASE_MS = 1_000
STEPS = 4
RUNS = 12


class WildClock:
    """Wall time may jump both ways; boot time only runs on, sometimes far (a suspended machine)."""

    def __init__(self) -> None:
        self.wall = 1_790_000_000_000
        self.boot = 5_000

    def now_ms(self) -> int:
        return self.wall

    def boot_ms(self) -> int:
        return self.boot

    def monotonic(self) -> float:
        return self.boot / 1000

    def advance(self, ms: int) -> None:
        self.wall += ms
        self.boot += ms


class Actor:
    """A worker that acts only when the schedule lets it: between two acts anything may have happened."""

    names = itertools.count()

    def __init__(self, store: SqliteStore, acknowledged: dict[str, list[int]]) -> None:
        self.store = store
        self.acknowledged = acknowledged
        self.name = ""
        self.claims: dict[str, tuple[Fence, int]] = {}

    async def join(self) -> None:
        self.name = f"actor-{next(self.names)}"
        self.claims = {}
        info = WorkerInfo(id=self.name, host="h", pid=1, start=1, boot="b", namespace="elsewhere", targets=["a/w"])
        await self.store.join(info, LEASE_MS)

    async def renew(self) -> None:
        if not await self.store.renew(self.name, LEASE_MS):
            await self.join()

    async def claim(self) -> None:
        try:
            runs = await self.store.claim(self.name, ["a/w"], 3, suspects=3)
        except Fenced:
            return await self.renew()
        for run in runs:
            journal = await self.store.journal(run.id)
            assert [step.seq for step in journal.steps] == self.acknowledged[run.id]
            self.claims[run.id] = (Fence(run.id, run.epoch), len(journal.steps))
        return None

    async def work(self, chance: Random) -> None:
        if not self.claims:
            return
        id_ = chance.choice(sorted(self.claims))
        fence, done = self.claims[id_]
        try:
            if done == STEPS:
                await self.store.finish(fence, Finish(state="completed"))
                del self.claims[id_]
            elif chance.random() < 0.2:
                moment = self.store._database._clock.now_ms() + 300  # type: ignore[attr-defined]
                if await self.store.suspend(fence, [Wait(pos=f"t{done}", kind="timer", wake_at=moment)], "sleep"):
                    del self.claims[id_]
            else:
                step = Step(seq=done + 1, pos=str(done + 1), kind="step", name="s", hash=b"", result=self.name.encode())
                await self.store.append(fence, [step])
                self.acknowledged[id_].append(done + 1)
                self.claims[id_] = (fence, done + 1)
        except Fenced:
            del self.claims[id_]


async def reap_all(store: SqliteStore) -> None:
    for worker in await store.expired_workers():
        await store.reap(worker, proven=False, poison_after=10**6)


async def disturb(clock: WildClock, store: SqliteStore, actors: list[Actor], chance: Random) -> None:
    """One random thing happens."""
    actor = chance.choice(actors)
    what = chance.random()
    if what < 0.45:
        await actor.work(chance)
    elif what < 0.65:
        await actor.claim()
    elif what < 0.75:
        await actor.renew()
    elif what < 0.80:
        await reap_all(store)
    elif what < 0.88:
        await store.promote()
    elif what < 0.96:
        clock.advance(chance.randint(1, 400))
    elif what < 0.98:
        clock.boot += chance.randint(1, 5_000)  # the machine slept
    else:
        clock.wall += chance.randint(-3_600_000, 3_600_000)  # somebody set the clock


async def settle(clock: WildClock, store: SqliteStore, actors: list[Actor], chance: Random) -> None:
    """The noise stops: whatever is left completes."""
    for _ in range(600):
        clock.advance(50)
        await reap_all(store)
        await store.promote()
        for actor in actors:
            await actor.renew()
            await actor.claim()
            await actor.work(chance)
        if all(run.final for run in await store.runs(limit=RUNS)):
            return


@pytest.mark.parametrize("seed", range(6))
async def test_every_run_completes_once_whatever_the_schedule(tmp_path: Path, seed: int) -> None:
    chance, clock = Random(seed), WildClock()
    store = SqliteStore(tmp_path / "relit.db", clock=clock, wakeups=Wakeups())
    await store.start()
    acknowledged: dict[str, list[int]] = {f"run-{i:02}": [] for i in range(RUNS)}
    boxes = [None, "one"]
    await store.enqueue(
        [
            NewRun(id=id_, agent="a", workflow="w", input=b"\x01\xc0", mailbox=boxes[i % 2])
            for i, id_ in enumerate(acknowledged)
        ]
    )
    actors = [Actor(store, acknowledged) for _ in range(3)]
    for actor in actors:
        await actor.join()
    for _ in range(500):
        await disturb(clock, store, actors, chance)
    clock.wall = max(clock.wall, 1_790_010_000_000)
    await settle(clock, store, actors, chance)
    assert {run.state for run in await store.runs(limit=RUNS)} == {"completed"}
    for id_, steps in acknowledged.items():
        recorded = [step.seq for step in await store.steps(id_)]
        assert recorded == [1, 2, 3, 4]
        assert steps == recorded
    assert await store.check() == []
    await store.stop()
