"""relit's own limits: many waiting runs, a long journal, a growing history. Prints one JSON object.

The worker runs in a process of its own, so that its memory and CPU are its own; this process starts runs, signals
and waits for results through the same SQLite file, as a server would.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import relit_engine

from relit.durable.engine import Engine

HERE = Path(__file__).resolve().parent
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    waiting: int = 10_000
    wakes: int = 200
    idle_s: float = 20.0
    crowd: int = 100_000
    journal: int = 100_000
    journal_at_once: int = 1
    history: int = 1_000_000
    history_every: int = 50_000


QUICK = Sizes(wakes=50, idle_s=2.0, crowd=0, journal=20_000, journal_at_once=250, history=0)


class WorkerProcess:
    """The child, and what the kernel says of it."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self._proc = Path(f"/proc/{child.pid}")

    def resident_mb(self) -> float:
        """Resident memory in MiB."""
        pages = int((self._proc / "statm").read_text().split()[1])
        return pages * 4096 / MIB

    def cpu_s(self) -> float:
        """CPU seconds of all its threads so far."""
        return sum(int(each.read_text().split()[0]) for each in self._proc.glob("task/*/schedstat")) / 1e9


@contextlib.asynccontextmanager
async def worker(folder: Path, concurrency: int = 100) -> AsyncIterator[WorkerProcess]:
    """A worker that is ready; ended with the block."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "relit_limits_worker.py"),
        str(folder),
        str(concurrency),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        if await child.stdout.readline() != b"ready\n":
            raise SystemExit("the worker did not start")
        yield WorkerProcess(child)
    finally:
        child.stdin.close()
        await child.wait()


async def until_waiting(here: Engine, target: str, count: int) -> None:
    """Return once ``count`` runs of ``target`` wait for their signal. Counts are polled: nothing announces them."""
    while (await here.store.counts()).get((target, "waiting"), 0) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.2)


async def start_waiting(here: Engine, count: int) -> list[str]:
    """Start runs that will wait, a thousand in a commit."""
    found: list[str] = []
    while len(found) < count:
        batch = [await here.make(relit_engine.waiting) for _ in range(min(1000, count - len(found)))]
        found += [each.id for each in await here.enqueue(batch)]
    return found


async def wake(here: Engine, run: str) -> float:
    """Milliseconds from the signal to the line after it."""
    begin = time.perf_counter()
    await here.signal(run, "go")
    moment: float = await here.result(run, type=float)
    return (moment - begin) * 1000


async def warm_up(here: Engine) -> None:
    """Let everything be imported and every cache be filled once, so that idle means idle."""
    await relit_engine.run_many(here, 100, 10)
    for run in await start_waiting(here, 100):
        await wake(here, run)


async def waiting_runs(here: Engine, folder: Path, sizes: Sizes) -> dict[str, float]:
    """What ten thousand waiting runs cost, and how fast one of them wakes."""
    async with worker(folder) as process:
        await warm_up(here)
        idle = process.resident_mb()
        runs = await start_waiting(here, sizes.waiting)
        await until_waiting(here, relit_engine.waiting.target, sizes.waiting)
        found = {"waiting_10k_mb": process.resident_mb() - idle, "waiting_idle_mb": idle}
        await asyncio.sleep(1)
        before, begin = process.cpu_s(), time.perf_counter()
        await asyncio.sleep(sizes.idle_s)
        found["waiting_idle_cpu_percent"] = (process.cpu_s() - before) / (time.perf_counter() - begin) * 100
        taken = [await wake(here, run) for run in runs[:: len(runs) // sizes.wakes]]
        if sizes.crowd:
            await start_waiting(here, sizes.crowd - sizes.waiting + len(taken))
            await until_waiting(here, relit_engine.waiting.target, sizes.crowd)
    return found | {"wake_p50_ms": measure.percentile(taken, 0.5), "wake_p99_ms": measure.percentile(taken, 0.99)}


async def start_in_a_crowd(here: Engine, folder: Path) -> float:
    """Seconds from a new worker process's start to its first run's first line, among all those that wait."""
    run = await here.start(relit_engine.note)
    begin = time.perf_counter()
    async with worker(folder):
        moment: float = await here.result(run, type=float)
        return moment - begin


async def replay(here: Engine, folder: Path, sizes: Sizes) -> dict[str, float]:
    """Steps a second from the journal: the code alone, and from the signal on (claim and loading included)."""
    async with worker(folder):
        run = await here.start(relit_engine.long, (sizes.journal, sizes.journal_at_once))
        await until_waiting(here, relit_engine.long.target, 1)
        signalled = time.perf_counter()
        await here.signal(run, "go")
        begin, end = await here.result(run, type=list[float])
    return {
        "replay_steps_per_s": sizes.journal / (end - begin),
        "replay_with_load_steps_per_s": sizes.journal / (end - signalled),
    }


async def growth(here: Engine, folder: Path, sizes: Sizes) -> list[dict[str, float]]:
    """Cost per step of one run as its history, and the store's, grows."""
    async with worker(folder):
        run = await here.start(relit_engine.growing, (sizes.history, sizes.history_every))
        marks = await here.result(run, type=list[tuple[int, float, float]])
    curve = []
    for (done, wall, cpu), (more, wall_then, cpu_then) in itertools.pairwise(marks):
        steps = more - done
        curve.append(
            {
                "steps": more,
                "cpu_us_per_step": round((cpu_then - cpu) / steps * 1e6, 1),
                "wall_us_per_step": round((wall_then - wall) / steps * 1e6, 1),
            }
        )
    return curve


def say(text: str, begin: float) -> None:
    """Progress goes to stderr."""
    print(f"limits · {text}  ({time.monotonic() - begin:.1f} s)", file=sys.stderr, flush=True)


async def main(folder: Path, sizes: Sizes, only: list[str]) -> dict[str, Any]:
    """Everything, one after the other, each on a store of its own."""
    found: dict[str, Any] = {}

    async def part(name: str, measured: Any) -> None:
        if only and name not in only:
            return
        (folder / name).mkdir()
        begin = time.monotonic()
        async with relit_engine.engine("sqlite", folder / name) as here:
            found.update(await measured(here, folder / name))
        say(name, begin)

    async def waits(here: Engine, place: Path) -> dict[str, Any]:
        figures = await waiting_runs(here, place, sizes)
        if sizes.crowd:
            figures["start_with_100k_waiting_s"] = await start_in_a_crowd(here, place)
        return figures

    async def replays(here: Engine, place: Path) -> dict[str, Any]:
        return await replay(here, place, sizes)

    async def grows(here: Engine, place: Path) -> dict[str, Any]:
        curve = await growth(here, place, sizes)
        first, last = curve[0]["cpu_us_per_step"], curve[-1]["cpu_us_per_step"]
        return {"growth": curve, "growth_last_over_first": last / first}

    await part("waiting", waits)
    await part("replay", replays)
    if sizes.history:
        await part("growth", grows)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="waiting, replay, growth")
    asked = parser.parse_args()
    chosen = asked.only.split(",") if asked.only else []
    print(json.dumps(asyncio.run(main(asked.folder, QUICK if asked.quick else Sizes(), chosen))))
