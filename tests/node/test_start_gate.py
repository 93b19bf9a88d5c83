"""Starts pass a gate: one after the other where there is no room for all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from node_house import Server, running, sh

from relit.control.values import Demand, InstanceSpec
from relit.lib.clock import SYSTEM_CLOCK
from relit.node import record
from relit.node.client import KeeperClient
from relit.node.gate import STEADY_LOOKS, Gate
from relit.node.node import Node
from relit.pressure.admission import Room
from relit.pressure.footprint import MB, Footprint

LARGE = Demand(of="large", peak=600 * MB, settled=400 * MB)


def gate(free_mb: int = 1000, at_once: int = 2, **known: Footprint) -> Gate:
    room = Room(4000 * MB, free_mb * MB)
    return Gate(lambda: room, SYSTEM_CLOCK, reserve=lambda: 100 * MB, at_once=at_once, known=known)


async def test_the_second_waits_and_is_told_why_until_the_first_is_over() -> None:
    here, told = gate(), list[str]()
    first = here.pass_now("a", LARGE)
    assert first is not None
    assert here.pass_now("b", LARGE) is None
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(here.enter("b", LARGE, told.append))
        await asyncio.sleep(0)
        here.look()
        here.look()
        assert told == ["it needs 600 MB, and 300 MB are free beside the reserve"]
        first.close()
        here.look()
        assert (await waiting).name == "b"


async def test_nobody_passes_those_who_wait() -> None:
    here = gate()
    first = here.pass_now("a", LARGE)
    assert first is not None
    waiting = asyncio.ensure_future(here.enter("b", LARGE, lambda why: None))
    await asyncio.sleep(0)
    first.close()
    assert here.pass_now("c", LARGE) is None
    here.look()
    assert (await waiting).name == "b"


async def test_who_gives_up_waits_no_more() -> None:
    here = gate()
    assert here.pass_now("a", LARGE) is not None
    waiting = asyncio.ensure_future(here.enter("b", LARGE, lambda why: None))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    here.look()
    assert here.pass_now("c", Demand(of="small", peak=MB)) is not None


async def test_who_gives_up_as_it_is_let_in_holds_nothing() -> None:
    here = gate()
    first = here.pass_now("a", LARGE)
    assert first is not None
    waiting = asyncio.ensure_future(here.enter("b", LARGE, lambda why: None))
    await asyncio.sleep(0)
    first.close()
    here.look()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert here.pass_now("c", LARGE) is not None


async def test_what_was_measured_counts_and_not_what_was_said() -> None:
    here = gate(large=Footprint(100 * MB, 90 * MB, 0.1, seen=2))
    assert all(here.pass_now(name, LARGE) is not None for name in "abcdefghi")
    assert here.pass_now("j", LARGE) is None


EATS = "kept = bytearray(60 << 20); kept[::4096] = b'x' * len(kept[::4096]); print('ready', flush=True); input()"


async def test_a_start_is_measured_until_it_has_settled() -> None:
    here = gate()
    ticket = here.pass_now("a", LARGE)
    assert ticket is not None
    argv = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {EATS!r}])"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        ticket.of(process.pid)
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        here.look()
        assert here.known == {}, "it is not ready yet"
        ticket.ready(SYSTEM_CLOCK.monotonic())
        for _ in range(STEADY_LOOKS):
            here.look()
        found = here.known["large"]
        assert 60 * MB < found.settled < 200 * MB, "the child's memory counts"
        assert found.peak >= found.settled
        assert found.cpu_s > 0
        assert found.seen == 1
        process.communicate(b"\n")


# --- in a node ------------------------------------------------------------------------------------------------------


def sleeper(name: str, **demand: object) -> InstanceSpec:
    return sh(name, "exec sleep 600", demand=Demand(of=name, **demand))  # type: ignore[arg-type]


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


def state(node: Node, name: str) -> tuple[str, str]:
    [found] = [each for each in node.status() if each.name == name]
    return found.state, found.reason


async def test_an_agent_for_which_there_is_no_room_waits_and_says_why(
    keeper: KeeperClient, run_dir: Path, server: Server
) -> None:
    free = 800
    specs = [sleeper("a", peak=400 * MB, priority=90), sleeper("b", peak=400 * MB, priority=10)]
    async with running(
        keeper, run_dir, server, specs, room=lambda: Room(2000 * MB, free * MB), reserve=50 * MB
    ) as node:
        await until(lambda: "MB are free" in state(node, "b")[1])
        assert state(node, "a")[0] == "ready"
        assert state(node, "b")[0] == "starting"
        free = 1300
        await until(lambda: state(node, "b")[0] == "ready")
        await until(lambda: "a" in (record.read(run_dir) or pytest.fail("no record")).footprints, 20)


async def test_one_that_waits_can_be_stopped(keeper: KeeperClient, run_dir: Path, server: Server) -> None:
    async with running(
        keeper, run_dir, server, [sleeper("a", peak=MB), sleeper("b", peak=900 * MB)],
        room=lambda: Room(2000 * MB, 500 * MB),
    ) as node:  # fmt: skip
        await until(lambda: "MB are free" in state(node, "b")[1])
        async with asyncio.timeout(3):
            await node.apply([sleeper("a", peak=MB)])
        assert [each.name for each in node.status()] == ["a"]
