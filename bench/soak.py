"""A kill storm: real workers are killed, stopped past their lease and replaced while work comes in.

``python -m bench.soak --minutes 5 [--database postgresql://…] [--workers 3]`` prints counts as JSON and fails when
anything acknowledged was lost, recorded twice, or delivered twice to a receiver that honours idempotency keys.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from bench.soak_worker import STEPS, WORKFLOW, open_engine

from relit.durable.engine import Engine
from relit.durable.ticker import Ticker

BACKLOG = 300
SETTLE_SECONDS = 120.0
PROGRAM = "bench.soak_worker"


class Storm:
    """Workers, and what happens to them."""

    def __init__(self, folder: Path, database: str, workers: int, seed: int) -> None:
        self.folder = folder
        self.database = database
        self.size = workers
        self.chance = Random(seed)
        self.workers: list[asyncio.subprocess.Process] = []
        self.counts: Counter[str] = Counter()

    async def fill(self) -> None:
        """Start workers until there are enough."""
        self.workers = [worker for worker in self.workers if worker.returncode is None]
        while len(self.workers) < self.size:
            command = (sys.executable, "-m", PROGRAM, str(self.folder), self.database)
            self.workers.append(await asyncio.create_subprocess_exec(*command))
            self.counts["workers started"] += 1

    async def strike(self) -> None:
        """Something happens to one worker; then there is a new one."""
        worker = self.chance.choice(self.workers)
        deed: Callable[[asyncio.subprocess.Process], Awaitable[None]] = self.chance.choices(
            [self.kill, self.freeze, self.replace], [6, 2, 2]
        )[0]
        try:
            await deed(worker)
        except ProcessLookupError:  # it ended by itself: its database was away when it started
            self.counts["ended by themselves"] += 1
        await self.fill()

    async def kill(self, worker: asyncio.subprocess.Process) -> None:
        worker.kill()
        await worker.wait()
        self.counts["killed"] += 1

    async def freeze(self, worker: asyncio.subprocess.Process) -> None:
        """Stopped for longer than its lease, then let go on: it must find out that it owns nothing."""
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.chance.uniform(1.2, 2.0))
        worker.send_signal(signal.SIGCONT)
        self.counts["frozen past the lease"] += 1

    async def replace(self, worker: asyncio.subprocess.Process) -> None:
        """A rolling restart: the new one starts before the old one has gone."""
        worker.terminate()
        await self.fill()
        await worker.wait()
        self.counts["replaced in good order"] += 1

    async def end(self) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.terminate()
        await asyncio.gather(*(worker.wait() for worker in self.workers))


async def feed(engine: Engine, until: float) -> list[str]:
    """Keep work coming; answers the acknowledged runs."""
    acknowledged: list[str] = []
    while time.monotonic() < until:
        open_ = sum(n for (_, state), n in (await engine.store.counts()).items() if state != "completed")
        batch = [await engine.make(WORKFLOW, [len(acknowledged) + i]) for i in range(min(50, BACKLOG - open_))]
        if batch:
            acknowledged += [run.id for run in await engine.store.enqueue(batch)]
        await asyncio.sleep(0.2)
    return acknowledged


async def storm(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    engine = await open_engine(folder, args.database)
    ticker = Ticker(engine.store, poison_after=1000)
    await ticker.start()
    weather = Storm(folder, args.database, args.workers, args.seed)
    try:
        await weather.fill()
        acknowledged = await rage(weather, engine, time.monotonic() + args.minutes * 60)
        await settle(engine, len(acknowledged))
        result = await verdict(engine, folder, acknowledged)
    finally:
        await weather.end()
        await ticker.stop()
        await engine.store.stop()
    return {**weather.counts, **result}


async def rage(weather: Storm, engine: Engine, until: float) -> list[str]:
    """Strike while work comes in; answers the acknowledged runs."""
    async with asyncio.TaskGroup() as group:
        feeding = group.create_task(feed(engine, until))
        while time.monotonic() < until:
            await asyncio.sleep(weather.chance.uniform(0.3, 1.5))
            await weather.strike()
            print(json.dumps(weather.counts), file=sys.stderr)
    return feeding.result()


async def settle(engine: Engine, runs: int) -> None:
    """The storm is over: everything completes, or the verdict says what did not."""
    until = time.monotonic() + SETTLE_SECONDS
    changed = engine.store.subscribe("events")
    while time.monotonic() < until:
        counts = await engine.store.counts()
        if sum(n for (_, state), n in counts.items() if state == "completed") >= runs:
            return
        await changed.wait(0.5)


async def verdict(engine: Engine, folder: Path, acknowledged: list[str]) -> dict[str, object]:
    runs = {run.id: run for run in await engine.store.runs(limit=10**7)}
    double_steps = 0
    recorded = 0
    for id_ in runs:
        positions = Counter(step.pos for step in await engine.store.steps(id_, limit=10**6))
        double_steps += sum(count - 1 for count in positions.values())
        recorded += len(positions)
    witness = Counter((folder / "witness").read_text().split("\n")[:-1])
    called = sum(count for line, count in witness.items() if line.startswith("step"))
    return {
        "runs acknowledged": len(acknowledged),
        "lost": len(set(acknowledged) - set(runs)),
        "not completed": sum(runs[id_].state != "completed" for id_ in acknowledged if id_ in runs),
        "steps recorded": recorded,
        "steps recorded twice": double_steps,
        "steps run again": called - len({line for line in witness if line.startswith("step")}),
        "effects delivered": len(list((folder / "sink").iterdir())),
        "effects missing": len(acknowledged) - len(list((folder / "sink").iterdir())),
        "effect requests repeated": sum(line.startswith("repeated") for line in witness.elements()),
        "faults": await engine.store.check(),
        "steps each": STEPS,
    }


MUST_BE_NOTHING = ("lost", "not completed", "steps recorded twice", "effects missing", "faults")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relit-soak-") as name:
        folder = Path(name)
        (folder / "sink").mkdir()
        result = asyncio.run(storm(args, folder))
    print(json.dumps(result))
    broken = [key for key in MUST_BE_NOTHING if result[key]]
    if broken:
        print(f"error: the storm broke a promise: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
