"""The proof that a snapshot is of one instant: writers with promises across files, restored snapshots that keep them.

And the proof that the proof can fail: without the freeze, or with one process left out of it, promises are broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from time import monotonic

import msgspec
import pytest
from kit import AGENT, Kit, opened_watcher, running
from restless_agent import broken, halfway

from relit.app.stillness import InstanceFreezer, NoFreezer
from relit.drivers.base import Launch
from relit.errors import FreezeFailed
from relit.node import kin
from relit.node.client import KeeperClient, ensure_keeper
from relit.node.down import down
from relit.node.freeze import KeeperLine
from relit.store.sql.sqlite import databases
from relit.volumes.base import Freezer, Watch, Watcher
from relit.volumes.mount import Mount
from relit.volumes.watch.opening import Kind

LEDGERS, JOINED, MAPS = ("ann", "ben"), ("cat", "dan"), ("eve", "fay")
PROOF, SLICE = 200, 15
PATH = {"PATH": os.environ["PATH"]}


class Frozen(Kit):
    """Volumes whose one agent is held still by ``freezer``, which may be exchanged at any time."""

    freezer: Freezer

    def mount(self, agent: str) -> Mount:
        return msgspec.structs.replace(super().mount(agent), freezer=self)

    async def freeze(self) -> bool:
        return await self.freezer.freeze()

    def pids(self) -> Collection[int] | None:
        return self.freezer.pids()

    async def thaw(self) -> bool:
        return await self.freezer.thaw()


class Agent:
    """The restless agent, an instance of a real keeper."""

    def __init__(self, keeper: KeeperClient, run_dir: Path, kit: Frozen) -> None:
        self.keeper, self.run_dir, self.kit = keeper, run_dir, kit
        self.failed = self.halfway = 0

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

    async def moves(self) -> None:
        """Return when the mapping writers count on."""
        files = [self.kit.home() / f"{who}-1.map" for who in MAPS]
        before = [file.read_bytes() for file in files]
        async with asyncio.timeout(10):
            while any(file.read_bytes() == old for file, old in zip(files, before, strict=True)):
                await asyncio.sleep(0.001)

    async def runs(self) -> bool:
        return any(life.exit is None for life in await self.keeper.lives())

    def writers(self) -> list[int]:
        """Their process ids."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    async def snapshots(self, count: int) -> list[int]:
        """Take so many at odd moments; their lengths of freeze in µs. A freeze that fails is tried again, as ever."""
        chance, took, last = Random(count), list[int](), monotonic()
        while len(took) < count:
            assert await self.runs(), (self.run_dir / "agent.log").read_text()
            try:
                took.append((await self.kit.take(always=True)).freeze_us)
                last = monotonic()
            except FreezeFailed:
                self.failed += 1
                assert monotonic() < last + 20
            await asyncio.sleep(chance.random() * 0.02)
        return took

    async def end(self) -> None:
        """Kill it."""
        await self.keeper.kill("k")
        await self.keeper.ended("k")

    async def broken(self) -> dict[int, list[str]]:
        """After its end: restore every snapshot where it was taken (journals hold full paths); those not sound."""
        await self.end()
        home = self.kit.home()
        home.rename(home.with_name("as-it-ended"))
        found = {}
        for number in await self.kit.numbers():
            await self.kit.lay(number, home)
            self.halfway += halfway(home)
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
async def agent_at_work(base: Path, watch: Kind | Watcher, way: str, *writers: str) -> AsyncIterator[Agent]:
    """Under a keeper that freezes in that ``way``; by default its freezes are the real ones."""
    run_dir = base / "run"
    run_dir.mkdir(mode=0o700)
    keeper = await ensure_keeper(run_dir, groups=way == "cgroup")
    try:
        if way == "cgroup":
            await require_groups(run_dir)
        watcher = opened_watcher(watch) if isinstance(watch, str) else watch
        async with running(Frozen(base, watcher=watcher)) as kit:
            kit.freezer = InstanceFreezer(run_dir, lambda: [AGENT])
            agent = Agent(keeper, run_dir, kit)
            await agent.start(*writers)
            yield agent
    finally:
        await keeper.stop()
        await down(run_dir)


async def prove(base: Path, watch: Kind, way: str, writers: tuple[str, ...], count: int) -> None:
    """Not one of ``count`` snapshots breaks a promise."""
    async with agent_at_work(base, watch, way, *writers) as agent:
        took = sorted(us / 1000 for us in await agent.snapshots(count))
        found = await agent.broken()
    print(
        f"{way}, {watch}, {'+'.join(writers)}: {len(found)} of {count} bad, {agent.halfway} amid commits; frozen p50 "
        f"{statistics.median(took):.1f} ms, p99 {took[int(count * 0.99) - 1]:.1f} ms; {agent.failed} freezes failed"
    )
    assert found == {}
    assert agent.halfway or count < PROOF, "no snapshot was taken in the middle of a transaction"
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
    tmp_path: Path, watch: Kind, way: str, writers: tuple[str, ...]
) -> None:
    await prove(tmp_path, watch, way, writers, SLICE)


@pytest.mark.crash
@pytest.mark.parametrize("writers", [LEDGERS, (*JOINED, *MAPS)], ids="+".join)
@pytest.mark.parametrize("way", ["cgroup", "signals"])
@pytest.mark.parametrize("watch", ["fanotify", "inotify", "sweep"])
async def test_every_promise_is_kept_in_each_of_two_hundred_snapshots(
    tmp_path: Path, watch: Kind, way: str, writers: tuple[str, ...]
) -> None:
    await prove(tmp_path, watch, way, writers, PROOF)


@pytest.mark.slow
async def test_transactions_over_several_databases_are_whole_in_forks_and_checks(tmp_path: Path) -> None:
    async with agent_at_work(tmp_path, "inotify", "cgroup", *JOINED) as agent:
        await agent.snapshots(SLICE)
        await agent.end()
        kit = agent.kit
        for number in await kit.numbers():
            checked = await kit.lay(number, tmp_path / f"checked-{number}")
            if not halfway(checked) or agent.halfway == 4:
                continue
            agent.halfway += 1
            assert await databases.check(checked) == (4, [])
            await kit.homes.fork(AGENT, number, f"fork-{number}")
            await kit.homes.laid()
            assert broken(kit.home(f"fork-{number}")) == []
    assert agent.halfway, "no snapshot was taken in the middle of a transaction"
    shutil.rmtree(tmp_path)


# --- without it -----------------------------------------------------------------------------------------------------


async def disprove(base: Path, watch: Kind, writers: tuple[str, ...], count: int) -> None:
    """The same snapshots break promises when nobody is frozen."""
    async with agent_at_work(base, watch, "signals", *writers) as agent:
        agent.kit.freezer = NoFreezer()
        await agent.snapshots(count)
        found = await agent.broken()
    kinds = Counter(line.replace(":", " ").split()[0] for lines in found.values() for line in lines)
    print(f"not frozen, {watch}, {'+'.join(writers)}: {len(found)} of {count} bad; by what: {dict(kinds)}")
    assert found
    shutil.rmtree(base)


class AllButOne:
    """Stops every writer but the last."""

    def __init__(self, agent: Agent) -> None:
        self._pids = agent.writers()[:-1]

    async def freeze(self) -> bool:
        for pid in self._pids:
            os.kill(pid, signal.SIGSTOP)
        while any((found := kin.look(pid)) is None or found.state != "T" for pid in self._pids):
            await asyncio.sleep(0)
        return True

    def pids(self) -> Collection[int]:
        return self._pids

    async def thaw(self) -> bool:
        for pid in self._pids:
            os.kill(pid, signal.SIGCONT)
        return True


@pytest.mark.slow
@pytest.mark.parametrize(("watch", "writers"), [("fanotify", LEDGERS), ("sweep", (*LEDGERS, *JOINED, *MAPS))])
async def test_without_the_freeze_promises_are_broken(tmp_path: Path, watch: Kind, writers: tuple[str, ...]) -> None:
    await disprove(tmp_path, watch, writers, SLICE)


@pytest.mark.slow
async def test_one_process_that_goes_on_is_enough_to_break_promises(tmp_path: Path) -> None:
    async with agent_at_work(tmp_path, "inotify", "signals", *MAPS) as agent:
        agent.kit.freezer = AllButOne(agent)
        await agent.snapshots(2 * SLICE)
        found = await agent.broken()
    print(f"one of two goes on: {len(found)} of {2 * SLICE} bad")
    assert found


class Forgetful:
    """Watches as inotify does, but for the second look of each snapshot: mappings are not seen in it."""

    def __init__(self) -> None:
        self._inner = opened_watcher("inotify")

    def watch(self, home: Path, skip: Sequence[bytes] = ()) -> Watch:
        watch = self._inner.watch(home, skip)
        looks = itertools.count()
        mapped = watch.mapped
        watch.mapped = lambda recent_s=0.0, pids=None: frozenset() if next(looks) % 2 else mapped(recent_s)  # type: ignore[method-assign]
        return watch

    def close(self) -> None:
        self._inner.close()


@pytest.mark.slow
async def test_what_is_not_read_again_while_all_stand_still_breaks_promises(tmp_path: Path) -> None:
    async with agent_at_work(tmp_path, Forgetful(), "signals", *MAPS) as agent:
        await agent.snapshots(SLICE)
        found = await agent.broken()
    print(f"not read again: {len(found)} of {SLICE} bad")
    assert found


@pytest.mark.crash
@pytest.mark.parametrize(
    ("watch", "writers"),
    [("fanotify", LEDGERS), ("inotify", LEDGERS), ("sweep", LEDGERS), ("fanotify", JOINED), ("inotify", MAPS)],
)
async def test_without_the_freeze_two_hundred_snapshots_have_bad_ones(
    tmp_path: Path, watch: Kind, writers: tuple[str, ...]
) -> None:
    await disprove(tmp_path, watch, writers, PROOF)


# --- keepers that are killed ------------------------------------------------------------------------------------------


class Interrupted:
    """The real freezes; in every other one the keeper is killed, at once or somewhat later."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._inner = agent.kit.freezer
        self._chance = Random(3)
        self.freezes = 0
        self.whole: Counter[bool] = Counter()
        self._kill: asyncio.Task[None] | None = None

    async def freeze(self) -> bool:
        frozen = await self._inner.freeze()
        self.freezes += frozen
        if frozen and self.freezes % 4 == 1:
            await self._kill_keeper(0)
            await self._agent.moves()  # the guard let all go: what is copied now is of no one instant
        elif frozen and self.freezes % 4 == 3:
            self._kill = asyncio.create_task(self._kill_keeper(self._chance.random() * 0.02))
        return frozen

    def pids(self) -> Collection[int] | None:
        return self._inner.pids()

    async def thaw(self) -> bool:
        whole = await self._inner.thaw()
        self.whole[whole] += 1
        assert not (whole and self.freezes % 4 == 1)
        if self._kill is not None:
            await self._kill
            self._kill = None
        return whole

    async def _kill_keeper(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._agent.keeper.pid, signal.SIGKILL)


async def interrupt(base: Path, watch: Kind, way: str, count: int) -> None:
    """Keepers are killed while their freezes last: that copy is never a snapshot."""
    async with agent_at_work(base, watch, way, *LEDGERS, *MAPS) as agent:
        freezer = agent.kit.freezer = Interrupted(agent)
        await agent.snapshots(count)
        numbers = await agent.kit.numbers()
        found = await agent.broken()
    print(
        f"keepers killed, {way}, {watch}: {len(found)} of {count} bad; {freezer.freezes} freezes, "
        f"{freezer.whole[False]} let go too early, {agent.failed} snapshots failed"
    )
    assert found == {}
    assert len(numbers) == count == freezer.whole[True]
    assert freezer.whole[False] >= count // 4
    shutil.rmtree(base)


@pytest.mark.slow
async def test_a_copy_during_which_the_keeper_was_killed_is_no_snapshot(tmp_path: Path) -> None:
    await interrupt(tmp_path, "inotify", "signals", 8)


@pytest.mark.crash
@pytest.mark.parametrize(("watch", "way"), [("fanotify", "cgroup"), ("sweep", "signals")])
async def test_many_snapshots_while_keepers_are_killed(tmp_path: Path, watch: Kind, way: str) -> None:
    await interrupt(tmp_path, watch, way, 60)
