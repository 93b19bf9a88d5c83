"""Instances that a file holds, and probes of instances that are frozen."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from node_house import ENV, Bell, Server, gone, kill, living, rings, running, spec

from relit.control.values import Backoff, Probe
from relit.drivers.base import Launch
from relit.errors import FreezeFailed, InstanceHeld
from relit.lib import proc
from relit.node import holds
from relit.node.client import KeeperClient
from relit.node.freeze import Freezing
from relit.node.still import moving


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    return tmp_path / "agents" / "web" / "hold"


async def test_a_held_instance_stops_and_starts_again_when_it_is_released(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, hold: Path
) -> None:
    slow = Backoff(first_ms=600_000, most_ms=600_000)
    async with running(keeper, run_dir, server, [spec("web", rings(bell), hold=str(hold), backoff=slow)]) as node:
        for times in range(1, 4):
            pid = int(await bell.next())
            began = time.perf_counter()
            hold.write_text("restore of snapshot 3\nmore\n")
            await gone(pid)
            stopped = time.perf_counter() - began
            assert (await server.saw("instance.held", times))["reason"] == "restore of snapshot 3"
            assert [(each.state, each.reason) for each in node.status()] == [("stopped", "restore of snapshot 3")]
            began = time.perf_counter()
            hold.unlink()
            await server.saw("instance.started", times + 1)
            print(f"held: stopped after {stopped * 1000:.0f} ms, back {(time.perf_counter() - began) * 1000:.0f} ms")
            assert max(stopped, time.perf_counter() - began) < 1.0  # the figures are printed
        assert server.named("instance.restarting") == []  # a hold is no failure


async def test_one_that_somebody_else_ends_while_it_is_held_has_not_failed(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, hold: Path
) -> None:
    slow = Backoff(first_ms=600_000, most_ms=600_000)
    async with running(keeper, run_dir, server, [spec("web", rings(bell), hold=str(hold), backoff=slow)]):
        for times in range(1, 4):
            pid = int(await bell.next())
            hold.write_text("why\n")
            kill(pid)
            while living(pid):  # the node, in this very loop, hears of both at once
                time.sleep(0.001)
            await server.saw("instance.held", times)
            hold.unlink()
            await server.saw("instance.started", times + 1)
        assert server.named("instance.restarting") == []
        assert server.incidents == []


async def test_a_hold_of_a_process_that_is_dead_is_none(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, hold: Path
) -> None:
    """An upgrade stops an agent in a person's name; when it is killed, the agent must not stay stopped for ever."""
    with subprocess.Popen(["sleep", "100"]) as worker:
        start = proc.start_time(worker.pid)
        assert start is not None
        whose = msgspec.structs.replace(proc.myself(), pid=worker.pid, start=start)
        async with running(keeper, run_dir, server, [spec("web", rings(bell), hold=str(hold))]):
            pid = int(await bell.next())
            hold.write_text(f"it is being upgraded\n\n{msgspec.json.encode(whose).decode()}\n")
            await gone(pid)
            await server.saw("instance.held")
            assert hold.exists()
            worker.kill()
            worker.wait()
            await server.saw("instance.started", 2)
        assert not hold.exists()


async def test_without_inotify_it_is_looked_for(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, hold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "_FLAGS", -1)  # the kernel refuses
    async with running(keeper, run_dir, server, [spec("web", rings(bell), hold=str(hold))]):
        pid = int(await bell.next())
        hold.touch()
        await gone(pid, 2.0)
        assert (await server.saw("instance.held"))["reason"] == "it is held"
        hold.unlink()
        assert int(await bell.next(2.0)) != pid


async def test_what_is_held_is_not_started(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, hold: Path
) -> None:
    hold.parent.mkdir(parents=True)
    hold.symlink_to("nowhere")
    async with running(keeper, run_dir, server, [spec("web", rings(bell), hold=str(hold))]):
        assert os.strerror(errno.ENOENT) in (await server.saw("instance.held"))["reason"]
        with pytest.raises(TimeoutError):
            await bell.next(0.2)
        hold.unlink()
        await bell.next()


async def test_a_node_that_finds_a_held_instance_running_stops_it(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, hold: Path
) -> None:
    wanted = spec("web", rings(bell), hold=str(hold))
    async with running(keeper, run_dir, server, [wanted], leave=True):
        pid = int(await bell.next())
        await server.saw("instance.ready")
    hold.write_text("why")
    assert living(pid)
    async with running(keeper, run_dir, server, [wanted]):
        await server.saw("instance.held")
        assert not living(pid)


async def test_a_back_off_is_no_hindrance(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, hold: Path
) -> None:
    slow = Backoff(first_ms=600_000, most_ms=600_000)
    async with running(keeper, run_dir, server, [spec("web", rings(bell, "exit 1"), hold=str(hold), backoff=slow)]):
        await server.saw("instance.restarting", 2)  # the second one waits for ten minutes
        hold.write_text("why")
        await server.saw("instance.held")
        hold.unlink()
        await server.saw("instance.started", 3)


async def test_a_held_instance_can_be_stopped(keeper: KeeperClient, run_dir: Path, server: Server, hold: Path) -> None:
    hold.parent.mkdir(parents=True)
    hold.write_text("why")
    async with running(keeper, run_dir, server, [spec("web", ["sleep", "1000"], hold=str(hold))]) as node:
        await server.saw("instance.held")
        async with asyncio.timeout(5):
            await node.apply([])
        assert node.status() == []


async def test_the_keeper_itself_starts_nothing_that_is_held(
    keeper: KeeperClient, server: Server, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    launch = Launch(key="k", name="web", argv=["sleep", "1000"], env=ENV, hold=str(hold))
    with pytest.raises(InstanceHeld):
        await keeper.start_life(launch)
    assert await keeper.lives() == []
    hold.unlink()
    await keeper.start_life(launch)


# --- probes and freezes ---------------------------------------------------------------------------------------------

ANSWERS = """
import os, socket, sys
door = socket.create_server(("127.0.0.1", int(sys.argv[1])))
open(sys.argv[2], "w").write(f"{os.getpid()}\\n")
while True:
    other, _ = door.accept()
    other.recv(1000)
    other.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    other.close()
"""


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
        return port


def answering(bell: Bell, port: int) -> list[str]:
    return [sys.executable, "-c", ANSWERS, str(port), str(bell.path)]


async def test_a_freeze_does_not_make_probes_fail(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, free_port: int
) -> None:
    impatient = Probe(kind="http", target=f"http://127.0.0.1:{free_port}/", every_ms=20, timeout_ms=100, failures=1)
    wanted = spec("web", answering(bell, free_port), ready=impatient, live=[impatient])
    async with running(keeper, run_dir, server, [wanted]) as node:
        pid = int(await bell.next())
        await server.saw("instance.ready")
        for _ in range(4):
            freezing = Freezing(run_dir, ["web"], 2_000)
            assert await freezing.freeze()
            await asyncio.sleep(0.3)  # the moment is the point: probes fail meanwhile
            assert await freezing.thaw()
            await asyncio.sleep(0.05)
        assert living(pid)
        assert server.named("instance.died") == []
        assert len(server.named("instance.ready")) == 1
        assert [each.state for each in node.status()] == ["ready"]


async def test_a_hung_instance_is_killed_although_it_is_frozen_now_and_then(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, free_port: int
) -> None:
    question = Probe(kind="http", target=f"http://127.0.0.1:{free_port}/", every_ms=20, timeout_ms=100, failures=2)
    async with running(keeper, run_dir, server, [spec("web", answering(bell, free_port), live=[question])]):
        pid = int(await bell.next())
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(50):
            while moving(pid):  # before it stands, a freeze cannot know that it is not the one to let it go
                await asyncio.sleep(0.001)
            while living(pid):
                freezing = Freezing(run_dir, ["web"], 2_000)
                with suppress(FreezeFailed):  # it is being killed, or the machine is busy
                    await freezing.freeze()
                    await asyncio.sleep(0.02)
                    await freezing.thaw()
                await asyncio.sleep(0.5)  # two questions without an answer fit in between, on a busy machine, too
        assert int(await bell.next()) != pid


async def test_an_instance_that_dies_while_frozen_is_back_after_the_thaw(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [spec("web", rings(bell))]):
        pid = int(await bell.next())
        freezing = Freezing(run_dir, ["web"], 5_000)
        assert await freezing.freeze()
        kill(pid)
        with pytest.raises(TimeoutError):
            await bell.next(0.3)
        assert await freezing.thaw()
        assert int(await bell.next()) != pid
