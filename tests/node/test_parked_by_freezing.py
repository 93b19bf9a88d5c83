"""Instances that make room where they stand: frozen, into swap, and on again in a moment, as if nothing had been."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_house import Server, running, sh

from relit.control.values import Demand, InstanceSpec, Parking
from relit.lib import proc
from relit.lib.clock import SYSTEM_CLOCK
from relit.node import gauge, parked
from relit.node.client import KeeperClient
from relit.node.freeze import Freezing
from relit.node.node import Node
from relit.node.parked import Parked
from relit.node.status import read as status_of
from relit.pressure.admission import Room
from relit.pressure.footprint import MB
from relit.pressure.level import BURST, marks
from relit.pressure.shedding import Choice
from swap_files import swap_file

ALL = 16_000 * MB
MARKS = marks(ALL, BURST)
FREEZE = Parking(then="freeze", wakes=True)


@pytest.fixture(autouse=True)
def enough_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relit.pressure.level._BURST_MOST", BURST)  # a test takes memory away within milliseconds
    monkeypatch.setattr("relit.lib.pageout.swap_free", lambda: 1 << 40)
    monkeypatch.setattr("relit.lib.pageout.allowed", lambda: True)
    monkeypatch.setattr("relit.node.standing.LOOK_S", 0.3)


@pytest.fixture
def counter(tmp_path: Path) -> InstanceSpec:
    """It counts in a file; so does its child."""
    hold = tmp_path / "agents" / "a" / "run" / "hold"
    script = f"i=0; while :; do i=$((i+1)); echo $i > {tmp_path / 'count'}; sleep 0.02; done & wait"
    return sh("a", script, demand=Demand(of="a", cpu_s=0.5), hold=str(hold), parking=FREEZE)


def place(spec: InstanceSpec) -> Path:
    return parked.beside(spec.hold or "")


def park(spec: InstanceSpec, deed: Any = "freeze") -> None:
    place(spec).parent.mkdir(parents=True, exist_ok=True)
    parked.write(place(spec), Parked(reason="a test", deed=deed, at_ms=0))


async def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def state(node: Node) -> str:
    return node.status()[0].state


async def frozen(node: Node, spec: InstanceSpec, folder: Path) -> None:
    """When it has begun to count, it is parked; until it stands."""
    await until(lambda: state(node) == "ready" and (folder / "count").exists())
    park(spec)
    await until(lambda: state(node) == "frozen")


async def stands(folder: Path) -> bool:
    """Whether it counts no more."""
    was = (folder / "count").read_text()
    await asyncio.sleep(0.25)
    return (folder / "count").read_text() == was


async def test_amber_freezes_it_and_its_message_lets_it_go_on(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, tmp_path: Path
) -> None:
    free = MARKS.amber * 2
    async with running(keeper, run_dir, server, [counter], room=lambda: Room(ALL, free)) as node:
        await until(lambda: state(node) == "ready" and (tmp_path / "count").exists())
        pid = node.status()[0].pid
        free = MARKS.amber - 50 * MB
        assert (await server.saw("instance.parked"))["deed"] == "freeze"
        await until(lambda: state(node) == "frozen")
        assert node.status()[0].reason.startswith("parked: memory is amber")
        assert await stands(tmp_path)
        await until(lambda: (told := gauge.read(run_dir, SYSTEM_CLOCK.now_ms())) is not None and told.parked_count == 1)
        told = gauge.read(run_dir, SYSTEM_CLOCK.now_ms())
        assert told is not None
        assert (told.parked[0].cpu_s, told.wake_cpu_s) == (0, 0), "it comes back without a start"
        free = MARKS.amber * 2
        assert parked.wake(place(counter))
        await until(lambda: state(node) == "ready")
        assert not await stands(tmp_path)
        assert node.status()[0].pid == pid
        assert server.named("instance.died") == []


async def test_without_swap_it_is_stopped(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relit.lib.pageout.swap_free", lambda: 0)
    free = MARKS.amber * 2
    async with running(keeper, run_dir, server, [counter], room=lambda: Room(ALL, free)) as node:
        await until(lambda: state(node) == "ready")
        free = MARKS.amber - 50 * MB
        assert (await server.saw("instance.parked"))["deed"] == "stop"
        await until(lambda: state(node) == "stopped")


async def test_the_next_node_leaves_it_frozen_and_can_wake_it(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, [counter], leave=True) as node:
        await until(lambda: state(node) == "ready" and (tmp_path / "count").exists())
        pid = node.status()[0].pid
        park(counter)
        await until(lambda: state(node) == "frozen")
    assert await stands(tmp_path)
    async with running(keeper, run_dir, server, [counter]) as node:
        await until(lambda: state(node) == "frozen")
        assert await stands(tmp_path)
        parked.wake(place(counter))
        await until(lambda: state(node) == "ready")
        assert node.status()[0].pid == pid


async def test_it_is_frozen_again_when_the_keeper_was_killed(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, [counter]) as node:
        await frozen(node, counter, tmp_path)
        os.kill(status_of(run_dir).keeper or 0, signal.SIGKILL)
        await asyncio.sleep(1.5)
        async with asyncio.timeout(15):
            while not await stands(tmp_path):
                pass
        parked.wake(place(counter))
        await until(lambda: state(node) == "ready")
        assert not await stands(tmp_path)


async def test_a_snapshot_finds_it_frozen_and_leaves_it_frozen(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, [counter]) as node:
        await frozen(node, counter, tmp_path)
        freezing = Freezing(run_dir, ["a"], 2000)
        assert await freezing.freeze()
        assert freezing.pids
        assert await freezing.thaw()
        assert await stands(tmp_path)
        freezing = Freezing(run_dir, ["a"], 2000)
        assert await freezing.freeze()
        parked.wake(place(counter))
        await until(lambda: state(node) == "ready")
        assert not await freezing.thaw(), "it did not stand still to the end"


async def test_it_is_not_called_frozen_before_it_stands_for_good(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, [counter]) as node:
        await until(lambda: state(node) == "ready" and (tmp_path / "count").exists())
        snapshot = Freezing(run_dir, ["a"], 2000)
        assert await snapshot.freeze()
        park(counter)
        await asyncio.sleep(0.5)
        assert state(node) == "ready"
        assert await snapshot.thaw()
        await until(lambda: state(node) == "frozen")
        assert await stands(tmp_path)


async def test_it_can_be_stopped_and_held_while_it_is_frozen(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, [counter]) as node:
        await frozen(node, counter, tmp_path)
        Path(counter.hold or "").write_text("by hand\n")
        await until(lambda: state(node) == "stopped")
        Path(counter.hold or "").unlink()
        await asyncio.sleep(0.3)
        assert state(node) == "stopped", "it is parked all the same"
        parked.wake(place(counter))
        await until(lambda: state(node) == "ready")
        park(counter)
        await until(lambda: state(node) == "frozen")
        pid = node.status()[0].pid or 0
    assert proc.start_time(pid) is None


async def test_one_that_somebody_else_had_parked_can_be_killed_for_room(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, [counter]) as node:
        await frozen(node, counter, tmp_path)
        node.semaphore._park(Choice("a", "kill", "a test"), 1000.0)
        node.semaphore.look()
        await until(lambda: state(node) == "stopped")
        node.semaphore.look()
        assert (parked.read(place(counter)) or Parked(reason="", deed="stop", at_ms=0)).deed == "kill"


async def test_one_that_is_killed_while_it_is_frozen_stays_parked(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, [counter]) as node:
        await frozen(node, counter, tmp_path)
        os.kill(node.status()[0].pid or 0, signal.SIGKILL)
        await until(lambda: state(node) == "stopped")
        parked.wake(place(counter))
        await until(lambda: state(node) == "ready")


EATS = "kept = bytearray(120 << 20); kept[::4096] = b'x' * len(kept[::4096]); print(len(kept), flush=True)"


async def test_what_it_held_is_in_swap_then_and_comes_back(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    told, go = tmp_path / "told", tmp_path / "go"
    script = (
        f"{EATS}; import os, time\nwhile not os.path.exists('{go}'): time.sleep(0.05)\n"
        f"open('{told}', 'w').write(str(sum(kept[::4096])))\ntime.sleep(600)"
    )
    big = sh("a", f'exec {sys.executable} -c "{script}"', demand=Demand(of="a"), hold=str(tmp_path / "a" / "hold"))
    with swap_file(tmp_path, 256 << 20):
        async with running(keeper, run_dir, server, [big]) as node:
            await until(lambda: state(node) == "ready" and proc.resident(node.status()[0].pid or 0) > 120 * MB)
            pid = node.status()[0].pid or 0
            park(big)
            await until(lambda: proc.resident(pid) < 30 * MB)
            go.touch()
            parked.wake(place(big))
            await until(told.exists)
            await until(lambda: told.read_text() == str((120 << 20) // 4096 * ord("x")))


async def test_what_one_that_must_go_on_does_not_use_moves_into_swap(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    hold = str(tmp_path / "a" / "hold")
    script = f"{EATS}; import time\nwhile True: time.sleep(0.05)"
    kept = sh("a", f'exec {sys.executable} -c "{script}"', demand=Demand(of="a"), hold=hold)
    free = MARKS.amber * 2
    with swap_file(tmp_path, 256 << 20):
        async with running(keeper, run_dir, server, [kept], room=lambda: Room(ALL, free)) as node:
            await until(lambda: state(node) == "ready" and proc.resident(node.status()[0].pid or 0) > 120 * MB)
            pid = node.status()[0].pid or 0
            free = MARKS.amber - 50 * MB
            told = await server.saw("instance.paged")
            assert told["holds"] < 30 * MB < 120 * MB < told["held"]
            assert state(node) == "ready"
            assert node.status()[0].pid == pid
            assert proc.start_time(pid) is not None


async def test_one_that_was_woken_while_no_node_looked_goes_on(
    keeper: KeeperClient, run_dir: Path, server: Server, counter: InstanceSpec, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, [counter], leave=True) as node:
        await frozen(node, counter, tmp_path)
    parked.wake(place(counter))
    async with running(keeper, run_dir, server, [counter]) as node:
        await until(lambda: state(node) == "ready")
        assert not await stands(tmp_path)
