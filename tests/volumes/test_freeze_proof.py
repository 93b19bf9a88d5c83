"""The proof that a snapshot is of one instant: writers with promises across files, restored snapshots that keep them.

And the proof that the proof can fail: without the freeze, or with one process left out of it, promises are broken.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
import pytest
from kit import AGENT, Kit, running
from restless_agent import broken

from relit.app.stillness import InstanceFreezer, NoFreezer
from relit.drivers.base import Launch
from relit.errors import FreezeFailed
from relit.node.client import KeeperClient, ensure_keeper
from relit.node.down import down
from relit.node.freeze import KeeperLine
from relit.volumes.base import Freezer
from relit.volumes.service import Mount

LEDGERS, JOINED, MAPS = ("ann", "ben"), ("cat", "dan"), ("eve", "fay")
PROOF = 200
PATH = {"PATH": os.environ["PATH"]}


class Frozen(Kit):
    """Volumes whose one agent is held still by ``freezer``."""

    freezer: Freezer = NoFreezer()

    def mount(self, agent: str) -> Mount:
        return msgspec.structs.replace(super().mount(agent), freezer=self.freezer)


class Agent:
    """The restless agent, an instance of a real keeper."""

    def __init__(self, keeper: KeeperClient, run_dir: Path, kit: Frozen) -> None:
        self.keeper, self.run_dir, self.kit = keeper, run_dir, kit
        self.failed = 0

    async def start(self, *writers: str) -> None:
        """Return when every writer is at work."""
        home = self.kit.home()
        home.mkdir(parents=True)
        program = Path(__file__).with_name("restless_agent.py")
        argv = [sys.executable, str(program), str(home), *writers]
        log = self.run_dir / "agent.log"
        life = await self.keeper.start_life(Launch(key="k", name=AGENT, argv=argv, env=PATH, log=str(log)))
        self.pid = life.pid
        async with asyncio.timeout(30):
            while not all(home.with_name(f"{who}.begun").exists() for who in writers):
                assert await self.runs(), log.read_text()
                await asyncio.sleep(0.01)

    async def runs(self) -> bool:
        return any(life.exit is None for life in await self.keeper.lives())

    def writers(self) -> list[int]:
        """Their process ids."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    async def snapshots(self, count: int) -> list[int]:
        """Take so many at odd moments; their lengths of freeze in µs. A freeze that fails is tried again, as ever."""
        chance, took = Random(count), list[int]()
        while len(took) < count:
            assert await self.runs(), (self.run_dir / "agent.log").read_text()
            try:
                took.append((await self.kit.take(always=True)).freeze_us)
            except FreezeFailed:
                self.failed += 1
                assert self.failed <= count
            await asyncio.sleep(chance.random() * 0.02)
        return took

    async def broken(self) -> dict[int, list[str]]:
        """End the agent, restore every snapshot where it was taken (journals hold full paths); those not sound."""
        await self.keeper.kill("k")
        await self.keeper.ended("k")
        home = self.kit.home()
        home.rename(home.with_name("as-it-ended"))
        found = {}
        for number in await self.kit.numbers():
            await self.kit.lay(number, home)
            if trouble := await asyncio.to_thread(broken, home):
                found[number] = trouble
            shutil.rmtree(home)
        return found


async def require_groups(run_dir: Path) -> None:
    """This machine lets a keeper make cgroups; else the test is skipped, except in CI."""
    line = KeeperLine(run_dir)
    assert await line.open()
    groups = (await line.ask(do="list"))["groups"]
    await line.close()
    if not groups:
        assert os.environ.get("CI") != "true", "CI must be able to freeze with cgroups"
        pytest.skip("no cgroup can be made here")


@asynccontextmanager
async def agent_at_work(base: Path, watch: str, way: str, *writers: str) -> AsyncIterator[Agent]:
    """Under a keeper that freezes in that ``way``; by default its freezes are the real ones."""
    run_dir = base / "run"
    run_dir.mkdir(mode=0o700)
    keeper = await ensure_keeper(run_dir, groups=way == "cgroup")
    try:
        if way == "cgroup":
            await require_groups(run_dir)
        async with running(Frozen(base, watch=watch)) as kit:  # type: ignore[arg-type]
            kit.freezer = InstanceFreezer(run_dir, lambda: [AGENT])
            agent = Agent(keeper, run_dir, kit)
            await agent.start(*writers)
            yield agent
    finally:
        await keeper.stop()
        await down(run_dir)


async def prove(base: Path, watch: str, way: str, writers: tuple[str, ...], count: int) -> None:
    """Not one of ``count`` snapshots breaks a promise."""
    async with agent_at_work(base, watch, way, *writers) as agent:
        took = sorted(us / 1000 for us in await agent.snapshots(count))
        found = await agent.broken()
    print(
        f"{way}, {watch}, {'+'.join(writers)}: {len(found)} of {count} bad; frozen for p50 "
        f"{statistics.median(took):.1f} ms, p99 {took[int(count * 0.99) - 1]:.1f} ms; {agent.failed} freezes failed"
    )
    assert found == {}
    assert took[0] > 0
    assert took[-1] < 2_000
    shutil.rmtree(base)


# --- with the freeze ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("watch", "way", "writers"),
    [
        ("fanotify", "cgroup", LEDGERS),
        ("inotify", "signals", LEDGERS),
        ("sweep", "cgroup", (*LEDGERS, *JOINED)),
        ("fanotify", "signals", MAPS),
        ("sweep", "cgroup", MAPS),
    ],
)
async def test_every_promise_across_files_is_kept_in_a_snapshot(
    tmp_path: Path, watch: str, way: str, writers: tuple[str, ...]
) -> None:
    await prove(tmp_path, watch, way, writers, 20)


@pytest.mark.crash
@pytest.mark.parametrize("writers", [LEDGERS, JOINED, MAPS, (*LEDGERS, *JOINED, *MAPS)], ids="+".join)
@pytest.mark.parametrize("way", ["cgroup", "signals"])
@pytest.mark.parametrize("watch", ["fanotify", "inotify", "sweep"])
async def test_every_promise_is_kept_in_each_of_two_hundred_snapshots(
    tmp_path: Path, watch: str, way: str, writers: tuple[str, ...]
) -> None:
    await prove(tmp_path, watch, way, writers, PROOF)


# --- without it -----------------------------------------------------------------------------------------------------


async def disprove(base: Path, watch: str, writers: tuple[str, ...], count: int) -> None:
    """The same snapshots break promises when nobody is frozen."""
    async with agent_at_work(base, watch, "signals", *writers) as agent:
        agent.kit.freezer = NoFreezer()
        await agent.snapshots(count)
        found = await agent.broken()
    kinds = Counter(line.split(":")[0] for lines in found.values() for line in lines)
    print(f"not frozen, {watch}, {'+'.join(writers)}: {len(found)} of {count} bad: {dict(kinds)}")
    assert found
    shutil.rmtree(base)


@pytest.mark.slow
@pytest.mark.parametrize(("watch", "writers"), [("fanotify", LEDGERS), ("sweep", JOINED), ("inotify", MAPS)])
async def test_without_the_freeze_promises_are_broken(tmp_path: Path, watch: str, writers: tuple[str, ...]) -> None:
    await disprove(tmp_path, watch, writers, 30)


@pytest.mark.crash
@pytest.mark.parametrize("writers", [LEDGERS, JOINED, MAPS], ids="+".join)
@pytest.mark.parametrize("watch", ["fanotify", "inotify", "sweep"])
async def test_without_the_freeze_two_hundred_snapshots_have_bad_ones(
    tmp_path: Path, watch: str, writers: tuple[str, ...]
) -> None:
    await disprove(tmp_path, watch, writers, PROOF)
