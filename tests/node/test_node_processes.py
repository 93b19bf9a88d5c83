"""The node as a process of its own, killed and started again."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from node_house import Bell, Server, gone, kill, living, memory_kb, rings, running, spec

from relit.control.care import Care
from relit.control.unix import UnixControlServer
from relit.control.values import Backoff, InstanceSpec
from relit.node import status
from relit.node.client import KeeperClient, ensure_keeper
from relit.node.down import down


class Program:
    """Nodes as processes, over a real control socket."""

    def __init__(self, run_dir: Path, specs: list[InstanceSpec]) -> None:
        self.run_dir = run_dir
        self._specs = run_dir.parent / "specs.json"
        self._specs.write_bytes(msgspec.json.encode(specs))

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("node_program.py")), str(self.run_dir), str(self._specs)]
        )


@pytest.fixture
async def listening(run_dir: Path, server: Server) -> AsyncIterator[Server]:
    run_dir.mkdir(mode=0o700)
    control = UnixControlServer(run_dir / "control.sock", server)
    await control.start()
    yield server
    await control.stop()


async def end(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    await asyncio.to_thread(process.wait)


async def test_a_killed_node_costs_no_child(run_dir: Path, listening: Server, bell: Bell) -> None:
    program = Program(run_dir, [spec("a", rings(bell)), spec("b", rings(bell))])
    first = program.start()
    pids = {int(await bell.next()), int(await bell.next())}
    print(f"node: RSS {memory_kb(first.pid) / 1024:.0f} MiB")
    await end(first)
    assert all(living(pid) for pid in pids)
    second = program.start()
    await listening.saw("instance.adopted", 2)
    assert {each["pid"] for each in listening.named("instance.adopted")} == pids
    kill(min(pids))
    assert int(await bell.next()) not in pids
    await end(second, signal.SIGTERM)
    assert not any(living(pid) for pid in pids)


async def test_node_and_keeper_killed_at_once_start_no_child_twice(
    run_dir: Path, listening: Server, bell: Bell
) -> None:
    program = Program(run_dir, [spec("a", rings(bell)), spec("b", rings(bell))])
    for round_ in range(3):
        node = program.start()
        if round_ == 0:
            pids = {int(await bell.next()), int(await bell.next())}
        else:
            await listening.saw("instance.adopted", 2 * round_)
        keeper = status.read(run_dir).keeper
        assert keeper is not None
        kill(keeper)
        await end(node)
        await gone(keeper)
    assert all(living(pid) for pid in pids)
    with pytest.raises(TimeoutError):
        await bell.next(timeout=0.1)  # nobody rang a second time


async def test_a_node_killed_at_any_moment_of_its_start_starts_each_child_once(
    run_dir: Path, listening: Server, bell: Bell
) -> None:
    program = Program(run_dir, [spec(name, rings(bell)) for name in "abc"])
    for round_ in range(6):
        node = program.start()
        await asyncio.sleep(0.12 * round_)  # the moment is the point: from before its first instruction on
        await end(node)
    last = program.start()
    heard = {int(await bell.next()) for _ in range(3)}
    client = await ensure_keeper(run_dir)
    assert {life.pid for life in await client.lives() if life.exit is None} == heard
    await client.stop()
    await end(last, signal.SIGTERM)


async def test_down_ends_everything(run_dir: Path, listening: Server, bell: Bell) -> None:
    node = Program(run_dir, [spec("a", rings(bell))]).start()
    pid = int(await bell.next())
    await listening.saw("instance.ready")
    before = status.read(run_dir)
    assert (before.node, before.instances[0].pid) == (node.pid, pid)
    reaper = asyncio.get_running_loop().run_in_executor(None, node.wait)
    ended = await down(run_dir)
    await reaper
    assert (ended.node, ended.instances) == (True, [])
    assert not living(pid)
    assert before.keeper is not None
    await gone(before.keeper)
    after = status.read(run_dir)
    assert (after.keeper, after.node, after.instances) == (None, None, [])
    assert (await down(run_dir)).node is False


async def test_down_ends_what_a_dead_node_and_keeper_left(run_dir: Path, listening: Server, bell: Bell) -> None:
    node = Program(run_dir, [spec("a", rings(bell))]).start()
    pid = int(await bell.next())
    keeper = status.read(run_dir).keeper
    assert keeper is not None
    kill(keeper)
    await end(node)
    assert (await down(run_dir)).instances == ["a"]
    assert not living(pid)


async def test_status_shows_who_runs_without_a_node(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    empty = status.read(run_dir)
    assert (empty.keeper, empty.node, empty.instances) == (keeper.pid, None, [])
    async with running(keeper, run_dir, server, [spec("web", rings(bell))]):
        pid = int(await bell.next())
        await server.saw("instance.ready")
        seen = status.read(run_dir)
        assert [(each.name, each.state, each.pid) for each in seen.instances] == [("web", "ready", pid)]


def test_status_of_a_folder_without_anything(tmp_path: Path) -> None:
    assert status.read(tmp_path / "missing").instances == []
    (tmp_path / "node.json").write_text(json.dumps({"process": 1}))
    assert status.read(tmp_path).node is None


async def test_status_after_a_node_died_knows_who_is_down_too(run_dir: Path, listening: Server, bell: Bell) -> None:
    care = Care(agent="web", kind="command", home="/")
    slow = Backoff(first_ms=600_000, most_ms=600_000)
    node = Program(run_dir, [spec("web", rings(bell), care=care), spec("bad", ["false"], backoff=slow)]).start()
    pid = int(await bell.next())
    await listening.saw("instance.ready", instance="web")
    await listening.saw("instance.restarting", 2, instance="bad")
    await end(node)
    seen = {each.name: each for each in status.read(run_dir).instances}
    assert (seen["web"].state, seen["web"].pid, seen["web"].kind) == ("ready", pid, "command")
    assert (seen["bad"].state, seen["bad"].pid) == ("down", None)
    assert {each.reason for each in seen.values()} == {status.UNWATCHED}
