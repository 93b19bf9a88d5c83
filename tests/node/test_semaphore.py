"""Instances make room before the kernel takes it, and come back: by a message, or by themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from node_house import Server, running, sh

from relit.control.care import Care
from relit.control.values import Activity, Demand, InstanceSpec, Parking
from relit.errors import ServerUnreachable
from relit.lib import proc
from relit.node import parked
from relit.node.client import KeeperClient
from relit.node.node import Node
from relit.pressure.admission import Room
from relit.pressure.footprint import MB
from relit.pressure.level import BURST, marks

ALL = 16_000 * MB
MARKS = marks(ALL, BURST)
GREEN, AMBER, RED = MARKS.amber * 2, MARKS.amber - 50 * MB, MARKS.red - 50 * MB
STOP = Parking(then="stop", wakes=True)
GROWS = "exec python3 -c 'x = bytearray(60 << 20); x[::4096] = bytes(len(x[::4096])); import time; time.sleep(600)'"


class Memory:
    """What the machine says is free."""

    def __init__(self, free: int = GREEN) -> None:
        self.free = free

    def room(self) -> Room:
        return Room(ALL, self.free)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds to minutes. Memory that a test takes away within milliseconds is no growth: marks stay."""
    monkeypatch.setattr("relit.pressure.level._BURST_MOST", BURST)
    monkeypatch.setattr("relit.pressure.level._DWELL_S", {"amber": 0.2, "red": 0.1, "green": 0.0})
    monkeypatch.setattr("relit.pressure.shedding._RETURN_S", 0.1)
    monkeypatch.setattr("relit.pressure.shedding.BACK_S", 0.3)
    monkeypatch.setattr("relit.node.semaphore.IDLE_S", 0.3)
    monkeypatch.setattr("relit.node.gate.PATIENT_S", 0.3)
    monkeypatch.setattr("relit.node.semaphore.DULL_S", 0.3)
    monkeypatch.setattr("relit.pressure.shedding.REST_S", 0.5)


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., InstanceSpec]:
    def made(name: str, priority: int = 50, parking: Parking = STOP, peak: int = 0, **more: Any) -> InstanceSpec:
        hold = tmp_path / "agents" / name / "run" / "hold"
        demand = Demand(of=name, priority=priority, peak=peak)
        return sh(name, "exec sleep 600", demand=demand, hold=str(hold), parking=parking, **more)

    return made


def node_on(
    keeper: KeeperClient, run_dir: Path, server: Server, memory: Memory, *specs: InstanceSpec, **options: Any
) -> AbstractAsyncContextManager[Node]:
    return running(keeper, run_dir, server, specs, room=memory.room, **options)


async def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def state(node: Node, name: str) -> str:
    return next(each.state for each in node.status() if each.name == name)


def all_ready(node: Node) -> bool:
    return {each.state for each in node.status()} == {"ready"}


async def test_amber_stops_the_least_important_idle_one_and_its_message_starts_it(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    memory = Memory()
    specs = [place("high", 90), place("low", 10), place("busy", 5)]
    server.activity_now = Activity(busy=["busy"])
    async with node_on(keeper, run_dir, server, memory, *specs) as node:
        await until(lambda: all_ready(node))
        memory.free = AMBER
        told = await server.saw("instance.parked")
        assert (told["instance"], told["deed"]) == ("low", "stop")
        assert "memory is amber" in told["reason"]
        memory.free = GREEN
        await server.saw("instance.died", instance="low")
        await until(lambda: state(node, "low") == "stopped")
        found = parked.read(parked.beside(specs[1].hold))
        assert found is not None
        assert found.deed == "stop"
        assert (state(node, "high"), state(node, "busy")) == ("ready", "ready")
        assert server.named("instance.restarting", "low") == [], "nothing has to be healed"
        assert parked.wake(parked.beside(specs[1].hold))
        await server.saw("instance.woken", instance="low")
        await until(lambda: all_ready(node))


async def test_red_kills_at_once_and_who_no_message_wakes_comes_back_when_it_is_green(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    memory = Memory()
    stubborn = sh(
        "low", "trap '' TERM; sleep 600 & wait", demand=Demand(of="low", priority=10), hold=place("low").hold,
        grace_ms=8_000,
    )  # fmt: skip
    server.activity_now = Activity(busy=["low", "high"])
    async with node_on(keeper, run_dir, server, memory, place("high", 90), stubborn) as node:
        await until(lambda: all_ready(node))
        memory.free = RED
        told = await server.saw("instance.parked")
        assert (told["instance"], told["deed"]) == ("low", "kill")
        async with asyncio.timeout(4):
            await server.saw("instance.died", instance="low")
        memory.free = GREEN
        await server.saw("instance.woken", instance="low")
        await until(lambda: all_ready(node))
        assert server.named("instance.parked", "high") == [], "there was room again"
        levels = [each.data["level"] for each in server.events if each.name == "node.pressure"]
        assert levels[0] == "red"
        assert levels[-1] == "green"


async def test_while_nobody_knows_who_is_idle_nobody_is_stopped_at_amber(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> Activity:
        raise ServerUnreachable("the server is away")

    monkeypatch.setattr(server, "activity", away)
    memory = Memory()
    async with node_on(keeper, run_dir, server, memory, place("a")) as node:
        await until(lambda: all_ready(node))
        memory.free = AMBER
        await until(lambda: node.semaphore.pressure.level == "amber")
        await asyncio.sleep(1)
        assert state(node, "a") == "ready"
        memory.free = RED
        assert (await server.saw("instance.parked"))["deed"] == "kill"


async def test_who_has_had_nothing_to_do_for_long_is_stopped_without_need(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    lazy = Parking(then="stop", after_ms=1000, wakes=True)
    server.activity_now = Activity(busy=["busy"])
    async with node_on(
        keeper, run_dir, server, Memory(), place("lazy", parking=lazy), place("busy", parking=lazy)
    ) as node:
        await until(lambda: all_ready(node))
        told = await server.saw("instance.parked")
        assert told["instance"] == "lazy"
        assert "nothing to do" in told["reason"]
        server.activity_now = Activity()
        await server.saw("instance.parked", instance="busy")


async def test_an_idle_one_makes_room_for_a_start_that_waits(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    memory = Memory(MARKS.amber * 2 - 100 * MB)
    idle = place("idle")
    async with node_on(keeper, run_dir, server, memory, idle) as node:
        await until(lambda: all_ready(node))
        grower = sh("fat", GROWS, demand=Demand(of="fat"), hold=place("fat").hold, parking=STOP)
        await node.apply([idle, grower])
        await until(lambda: all_ready(node))
        await asyncio.sleep(1)
        await node.apply([idle, grower, place("new", peak=MARKS.amber)])
        told = await server.saw("instance.parked")
        assert told["instance"] == "fat"
        assert "new waits for memory" in told["reason"]
        memory.free += 200 * MB
        await until(lambda: state(node, "new") == "ready")


async def test_the_next_node_leaves_parked_ones_parked(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    memory, low = Memory(), place("low")
    async with node_on(keeper, run_dir, server, memory, low, leave=True) as node:
        await until(lambda: all_ready(node))
        memory.free = AMBER
        await server.saw("instance.parked")
        memory.free = GREEN
        await until(lambda: state(node, "low") == "stopped")
    async with node_on(keeper, run_dir, server, memory, low) as node:
        await asyncio.sleep(0.5)
        assert state(node, "low") == "stopped"
        parked.wake(parked.beside(low.hold))
        await until(lambda: all_ready(node))


async def test_whoever_is_parked_is_gone_whole(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    family = sh(
        "family", f"setsid sleep 600 & echo $! > {pids}; wait", demand=Demand(of="family"), hold=place("family").hold
    )
    memory = Memory()
    async with node_on(keeper, run_dir, server, memory, family) as node:
        await until(lambda: all_ready(node) and pids.exists() and pids.read_text().strip())
        memory.free = RED
        await server.saw("instance.died", instance="family")
        assert proc.start_time(int(pids.read_text())) is None


async def test_one_that_forks_while_it_is_killed_is_gone_whole(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    children = "sleep 6123.4"
    bomb = f"n=0; while [ $n -lt 3000 ]; do setsid {children} & n=$((n+1)); done; wait"
    memory, spec = Memory(), sh("bomb", bomb, demand=Demand(of="bomb"), hold=place("bomb").hold)
    async with node_on(keeper, run_dir, server, memory, spec) as node:
        await until(lambda: all_ready(node) and count_of(children) > 20)
        memory.free = RED
        await server.saw("instance.died", instance="bomb")
        await until(lambda: count_of(children) == 0)
        await until(lambda: state(node, "bomb") == "stopped")


def count_of(command: str) -> int:
    found = 0
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += each.read_bytes().replace(b"\0", b" ").strip() == command.encode()
    return found


async def test_one_that_heeds_no_word_is_killed_after_its_grace(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    deaf = "trap '' TERM; while :; do sleep 0.1; done"
    spec = sh("deaf", deaf, demand=Demand(of="deaf"), hold=place("deaf").hold, parking=STOP, grace_ms=500)
    memory = Memory()
    async with node_on(keeper, run_dir, server, memory, spec) as node:
        await until(lambda: all_ready(node))
        pid = node.status()[0].pid or 0
        await asyncio.sleep(0.3)
        memory.free = AMBER
        assert (await server.saw("instance.parked"))["deed"] == "stop"
        await until(lambda: state(node, "deaf") == "stopped")
        assert proc.start_time(pid) is None


async def test_one_that_leaks_is_started_afresh_when_it_rests_after_a_snapshot(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any, tmp_path: Path
) -> None:
    care = Care(agent="leaky", kind="command", home=str(tmp_path), tmp=str(tmp_path))
    leaky = sh(
        "leaky", GROWS, demand=Demand(of="leaky"), hold=place("leaky").hold, soft=20 * MB, care=care,
    )  # fmt: skip
    server.activity_now = Activity(busy=["leaky"])
    async with node_on(keeper, run_dir, server, Memory(), leaky, place("other", soft=20 * MB)) as node:
        await until(lambda: all_ready(node))
        await asyncio.sleep(1.5)
        assert server.named("instance.parked") == [], "it is at work"
        server.activity_now = Activity()
        told = await server.saw("instance.parked")
        assert told["instance"] == "leaky"
        assert "memory.soft" in told["reason"]
        assert ("known_good", "leaky") in server.asked, "a snapshot came first"
        await server.saw("instance.started", times=2, instance="leaky")
        assert server.named("instance.parked", "other") == []


async def test_one_that_takes_messages_and_is_to_be_kept_comes_back_by_itself_after_a_kill(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    memory = Memory()
    kept = place("kept", parking=Parking(then="keep", wakes=True))
    async with node_on(keeper, run_dir, server, memory, kept) as node:
        await until(lambda: all_ready(node))
        memory.free = RED
        await server.saw("instance.died")
        memory.free = GREEN
        await server.saw("instance.woken")
        await until(lambda: all_ready(node))


async def test_a_message_that_comes_while_it_is_parked_by_mistake_wakes_it(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    memory, spec = Memory(), place("a")
    async with node_on(keeper, run_dir, server, memory, spec) as node:
        await until(lambda: all_ready(node))
        memory.free = AMBER
        await server.saw("instance.parked")
        memory.free = GREEN
        server.activity_now = Activity(busy=["a"])
        await server.saw("instance.woken")
        await until(lambda: all_ready(node))


async def test_a_message_that_comes_before_it_is_parked_keeps_it(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer counts: the first one was old."""
    asked = 0

    async def activity() -> Activity:
        nonlocal asked
        asked += 1
        return Activity() if asked % 2 else Activity(busy=["a"])

    monkeypatch.setattr(server, "activity", activity)
    memory = Memory()
    async with node_on(keeper, run_dir, server, memory, place("a")) as node:
        await until(lambda: all_ready(node))
        memory.free = AMBER
        await until(lambda: asked >= 4)
        assert server.named("instance.parked") == []


async def test_a_start_that_ends_early_holds_no_room(
    keeper: KeeperClient, run_dir: Path, server: Server, place: Any
) -> None:
    memory, spec = Memory(), place("a", peak=300 * MB)
    async with node_on(keeper, run_dir, server, memory, spec) as node:
        await until(lambda: state(node, "a") in ("starting", "ready"))
        Path(spec.hold).write_text("by hand\n")
        await until(lambda: state(node, "a") == "stopped")
        assert node._gate.reserved() == 0
