"""A pool's workers: more while work waits, fewer when it has been calm, and never a process that nobody needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from node_house import Server, living, running, sh

from relit.control.values import Activity, InstanceSpec, Load, PoolPlace
from relit.node import pools
from relit.node.client import KeeperClient
from relit.node.node import Node
from relit.pressure import pool as deciding


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "LOOK_S", 0.05)
    monkeypatch.setattr(pools, "ASK_S", 0.0)
    monkeypatch.setattr(deciding, "GROW_S", 0.2)
    monkeypatch.setattr(deciding, "SHRINK_S", 0.5)


def workers(tmp_path: Path, least: int, most: int) -> list[InstanceSpec]:
    hold = str(tmp_path / "agents" / "clerk" / "run" / "hold")
    return [
        sh(
            f"clerk-{number}", "exec sleep 600", hold=hold, park=f"{hold}-{number}",
            pool=PoolPlace(of="clerk", number=number, least=least, most=most, places=2),
        ) for number in range(1, most + 1)
    ]  # fmt: skip


def up(node: Node) -> list[str]:
    return [each.name for each in node.status() if each.state == "ready"]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


def work(ready: int, running: int) -> Activity:
    return Activity(busy=["clerk"], loads={"clerk": Load(ready, running)})


async def test_it_grows_with_work_that_waits_and_shrinks_when_it_is_calm(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, workers(tmp_path, 1, 3)) as node:
        await until(lambda: up(node) == ["clerk-1"])
        assert [each.reason for each in node.status()[1:]] == ["not needed: 1 of 3 workers are enough"] * 2
        server.activity_now = work(3, 2)
        await until(lambda: up(node) == ["clerk-1", "clerk-2", "clerk-3"])
        pids = {each.name: each.pid or 0 for each in node.status()}
        server.activity_now = work(0, 1)
        await until(lambda: up(node) == ["clerk-1"])
        assert not living(pids["clerk-3"])
        assert living(pids["clerk-1"]), "the first one was there all the time"
        assert {each["signal"] for each in server.named("instance.died")} == {15}, "they were asked to end"
        assert server.incidents == []


async def test_a_pool_of_none_starts_with_the_first_message(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    async with running(keeper, run_dir, server, workers(tmp_path, 0, 2)) as node:
        await until(lambda: all(each.reason.startswith("not needed") for each in node.status()))
        server.activity_now = work(1, 0)
        await until(lambda: up(node) == ["clerk-1"])


async def test_the_next_node_lets_those_that_run_go_on(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    specs = workers(tmp_path, 1, 3)
    server.activity_now = work(1, 2)
    async with running(keeper, run_dir, server, specs, leave=True) as node:
        await until(lambda: len(up(node)) == 3)
        pids = [each.pid for each in node.status()]
    server.activity_now = work(0, 6)
    async with running(keeper, run_dir, server, specs) as node:
        await until(lambda: len(up(node)) == 3)
        assert [each.pid for each in node.status()] == pids


async def test_a_person_who_stops_the_agent_stops_the_whole_pool(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    specs = workers(tmp_path, 1, 2)
    server.activity_now = work(1, 2)
    async with running(keeper, run_dir, server, specs) as node:
        await until(lambda: len(up(node)) == 2)
        Path(specs[0].hold or "").write_text("by hand\n")
        await until(lambda: [each.state for each in node.status()] == ["stopped"] * 2)
        Path(specs[0].hold or "").unlink()
        await until(lambda: len(up(node)) == 2)
