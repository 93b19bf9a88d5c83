"""A node on a small machine, for real: a memory cgroup holds it with its agents, and one of them takes all there is."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from memory_group import memory_group
from node_house import Server, gone, sh

from relit.control.unix import UnixControlServer
from relit.control.values import Activity, Backoff, Demand, InstanceSpec, Parking
from relit.lib import proc
from relit.node.record import read
from relit.pressure.footprint import MB

QUIET = [f"quiet-{number}" for number in range(4)]
HOLDS = "kept = bytearray(40 << 20); kept[::4096] = bytes(len(kept[::4096])); import time; time.sleep(600)"
TAKES = """
import os, time
while not os.path.exists({go!r}): time.sleep(0.02)
kept = []
while True:
    kept.append(bytearray(16 << 20)); kept[-1][::4096] = bytes(len(kept[-1][::4096]))
"""


class Small:
    """The node's process, and what it says of its instances."""

    def __init__(self, run_dir: Path, server: Server, process: subprocess.Popen[bytes]) -> None:
        self._dir = run_dir
        self.server = server
        self.process = process

    def pid(self, name: str) -> int:
        record = read(self._dir)
        return next((each.pid or 0 for each in record.instances if each.name == name), 0) if record else 0

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@asynccontextmanager
async def small_machine(run_dir: Path, server: Server, specs: list[InstanceSpec]) -> AsyncIterator[Small]:
    run_dir.mkdir(mode=0o700)
    control = UnixControlServer(run_dir / "control.sock", server)
    await control.start()
    plan = run_dir.parent / "specs.json"
    plan.write_bytes(msgspec.json.encode(specs))
    program = [sys.executable, str(Path(__file__).with_name("node_program.py")), str(run_dir), str(plan)]
    with memory_group(600 * MB) as group:
        process = subprocess.Popen(program, preexec_fn=lambda: (group / "tasks").write_text("0"))  # type: ignore[func-returns-value]
        try:
            yield Small(run_dir, server, process)
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            await asyncio.to_thread(process.wait)
            await control.stop()


@pytest.fixture
async def small(run_dir: Path, server: Server, tmp_path: Path) -> AsyncIterator[Small]:
    """Four quiet agents, and a hog that waits for a file ``go``."""

    def made(name: str, program: str, priority: int) -> InstanceSpec:
        return sh(
            name, f'exec {sys.executable} -I -c "$PROGRAM"', hold=str(tmp_path / "agents" / name / "run" / "hold"),
            demand=Demand(of=name, priority=priority), env={"PROGRAM": program},
            parking=Parking(then="stop", wakes=True), backoff=Backoff(first_ms=60_000, most_ms=60_000),
        )  # fmt: skip

    server.activity_now = Activity(busy=[*QUIET, "hog"])
    specs = [made(name, HOLDS, 50 + at) for at, name in enumerate(QUIET)]
    specs.append(made("hog", TAKES.format(go=str(tmp_path / "go")), 10))
    async with small_machine(run_dir, server, specs) as machine:
        await machine.until(lambda: all(proc.resident(machine.pid(name)) > 40 * MB for name in QUIET))
        await machine.until(lambda: machine.pid("hog") and score(machine.pid("hog")) == 900)
        yield machine


@pytest.mark.slow
async def test_a_burst_costs_only_the_one_that_bursts(small: Small, tmp_path: Path) -> None:
    pids = {name: small.pid(name) for name in QUIET}
    hog = small.pid("hog")
    (tmp_path / "go").touch()
    await gone(hog, 30)
    await small.server.saw("instance.died", instance="hog")
    await asyncio.sleep(1)
    assert {name: small.pid(name) for name in QUIET} == pids
    assert {each["instance"] for each in small.server.named("instance.died")} == {"hog"}


@pytest.mark.slow
async def test_while_relit_stands_still_the_kernel_kills_who_would_have_gone_first(
    small: Small, tmp_path: Path
) -> None:
    pids = {name: small.pid(name) for name in QUIET}
    hog = small.pid("hog")
    small.process.send_signal(signal.SIGSTOP)
    (tmp_path / "go").touch()
    await gone(hog, 30)
    await asyncio.sleep(1)
    assert all(proc.start_time(pid) for pid in pids.values())
    small.process.send_signal(signal.SIGCONT)
    await small.server.saw("instance.died", instance="hog")
    assert {name: small.pid(name) for name in QUIET} == pids
    told, *_ = small.server.named("instance.restarting", "hog")  # it goes on, if it may
    assert told["reason"] == "the kernel killed it, since no memory was left"
