"""Kill the process at every named point of the engine, start it again, and look for anything lost or done twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from relit.durable.payload import Payloads
from relit.lib.crashpoints import POINTS
from relit.store.blobs import ObstoreBlobs
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Firing, Run, Step
from relit.store.wakeups import Wakeups

PROGRAM = Path(__file__).with_name("program.py")
QUICK = ("append.before", "append.after", "act.after", "suspend.after", "store.commit.before", "store.commit.after")
NOT_REACHED = {"doubt.before", "doubt.after"}  # another test's: this program asks nobody


async def run_program(folder: Path, *arguments: str) -> int:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(PROGRAM), str(folder), *arguments],
        timeout=50,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


async def rows(folder: Path) -> tuple[list[Run], dict[str, list[Step]], list[str]]:
    store = SqliteStore(folder / "relit.db", wakeups=Wakeups())
    await store.start()
    everything = await store.runs(limit=10_000)
    check_schedule(everything, await store.firings("beat", limit=10_000))
    runs = [run for run in everything if run.kind != "schedule"]
    steps = {run.id: await store.steps(run.id) for run in runs}
    faults = await store.check()
    await store.stop()
    return runs, steps, faults


async def check(folder: Path, kills: int) -> None:
    runs, steps, faults = await rows(folder)
    assert faults == []
    assert Counter(run.state for run in runs) == Counter({"completed": 6}), "2 rounds, 2 children, 2 messages"
    await check_results(folder, runs)
    check_journals(steps)
    check_world(folder, kills)


def check_schedule(runs: list[Run], firings: list[Firing]) -> None:
    made = {run.id for run in runs if run.kind == "schedule"}
    fired = [firing.run for firing in firings if firing.outcome == "fired"]
    assert len(fired) == len(set(fired)), "a moment made two runs"
    assert set(fired) == made
    assert len({firing.due_at for firing in firings}) == len(firings), "a moment has two outcomes"


async def check_results(folder: Path, runs: list[Run]) -> None:
    payloads = Payloads(ObstoreBlobs(str(folder / "blobs")))
    last = next(run for run in runs if run.workflow == "main_work" and run.continued_to is None)
    result = await payloads.decode(last.output or b"")
    expected = {"both": [5, 5], "text": 100_000, "paid": "paid", "looked": "looked", "answer": "yes-2", "nine": 9}
    assert {key: result[key] for key in expected} == expected


def check_journals(steps: dict[str, list[Step]]) -> None:
    for run, journal in steps.items():
        assert [step.seq for step in journal] == list(range(1, len(journal) + 1)), run
        assert len({step.pos for step in journal}) == len(journal), f"{run} has a position twice"


def check_world(folder: Path, kills: int) -> None:
    lines = Counter((folder / "witness").read_text().split("\n"))
    delivered = [path.name.rsplit("-", 1)[0] for path in folder.glob("delivered-*")]
    assert Counter(delivered) == {
        "delivered-paid": 2, "delivered-looked": 2, "delivered-message-hello-2": 1, "delivered-message-hello-1": 1,
    }  # fmt: skip
    assert lines["effect looked"] <= 2 + kills
    assert lines["repeated looked"] == 0, "an effect that can be looked up is never sent again once it happened"
    steps_called = sum(count for line, count in lines.items() if line.startswith("step ") and line != "step square 7")
    # 12 squares, 2 large, 2 of children. A kill, and the program's own change of workers each time that it is
    # started, interrupt at most the steps in flight: two branches.
    assert 16 <= steps_called <= 16 + 2 * kills + 2 * (kills + 1)


async def crash(folder: Path, point: str, number: int) -> bool:
    """Whether the point was passed often enough for the program to die there."""
    folder.mkdir(exist_ok=True)
    kills = 0
    if point.startswith("reap."):  # only after a death is there anything to reap
        kills += await run_program(folder, "append.after:4") == -9
    died = await run_program(folder, f"{point}:{number}") == -9
    if died:
        assert await run_program(folder) == 0
    await check(folder, kills + died)
    return died


@pytest.mark.parametrize("point", QUICK)
async def test_nothing_is_lost_or_done_twice_when_killed_at(tmp_path: Path, point: str) -> None:
    assert await crash(tmp_path, point, 3)


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", [point for point in POINTS if point not in NOT_REACHED])
async def test_every_point_can_be_the_last(tmp_path: Path, point: str) -> None:
    reached = [number for number in (1, 2, 5, 9, 14) if await crash(tmp_path / str(number), point, number)]
    assert reached, f"{point} is never passed by the program: add something that passes it"


@pytest.mark.crash
@pytest.mark.timeout(600)
async def test_killed_again_and_again(tmp_path: Path) -> None:
    kills = 0
    for round_ in range(12):
        point = QUICK[round_ % len(QUICK)]
        kills += await run_program(tmp_path, f"{point}:{2 + round_ % 3}") == -9
    assert await run_program(tmp_path) == 0
    await check(tmp_path, kills)
    assert kills > 3
