"""A death for want of memory is told from any other SIGKILL: by the kernel's own word."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from memory_group import memory_group
from node_house import Server, running, sh

from relit.control.values import Demand, InstanceSpec
from relit.lib.footprint import Forest, look
from relit.node.client import KeeperClient
from relit.node.oom import OURS, OomLog
from relit.pressure.admission import Room
from relit.pressure.footprint import MB
from relit.pressure.level import BURST, marks

EATS = "kept = bytearray(300 << 20); kept[::4096] = bytes(len(kept[::4096]))"


class Kernel:
    """Its files, as a test writes them."""

    def __init__(self, folder: Path) -> None:
        self.vmstat, self.log = folder / "vmstat", folder / "kmsg"
        self.log.touch()
        self.kills = 0
        self.count()

    def count(self) -> None:
        self.vmstat.write_text(f"nr_free_pages 7\noom_kill {self.kills}\nzone_reclaim_failed 0\n")

    def kill(self, *pids: int) -> None:
        self.kills += len(pids)
        self.count()
        with self.log.open("a") as file:
            for pid in pids:
                file.write(f"3,1,2,-;Out of memory: Killed process {pid} (node) total-vm:4kB, anon-rss:4kB\n")


def test_who_is_named_was_killed_and_nobody_else(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    log = OomLog(kernel.vmstat, kernel.log)
    assert not log.killed(7)
    kernel.kill(7, 8)
    assert not log.killed(6)
    assert log.killed(8)
    assert log.killed(7)
    assert not log.killed(7), "another process of that number"
    log.close()


def test_what_was_before_does_not_count(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.kill(7)
    assert not OomLog(kernel.vmstat, kernel.log).killed(7)


def test_where_the_log_may_not_be_read_the_count_tells(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    log = OomLog(kernel.vmstat, tmp_path / "none")
    assert not log.killed(7)
    kernel.kill(7)
    assert log.killed(7)
    assert not log.killed(8)


def test_without_a_count_nobody_was_killed(tmp_path: Path) -> None:
    assert not OomLog(tmp_path / "none", tmp_path / "none").killed(7)


async def test_the_incident_of_a_real_one_says_so(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    with memory_group(64 * MB) as group:
        script = (
            f"[ -e {once} ] && exec sleep 600; touch {once}; echo 0 > {group}/tasks; exec {sys.executable} -c '{EATS}'"
        )
        async with running(keeper, run_dir, server, [sh("hog", script), sh("other", "exec sleep 600")]) as node:
            await server.until(lambda: len(server.named("instance.started", "hog")) == 2)
            [first, *_] = server.named("instance.restarting", "hog")
            assert first["reason"] == "the kernel killed it, since no memory was left"
            other = next(each.pid for each in node.status() if each.name == "other")
            assert other is not None
            os.kill(other, 9)
            await server.until(lambda: len(server.named("instance.started", "other")) == 2)
            assert server.named("instance.restarting", "other")[0]["reason"] == "it was killed"


async def test_the_kernel_is_told_whom_to_kill_first_when_memory_is_short(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relit.pressure.level._BURST_MOST", BURST)  # memory goes within milliseconds
    mark = marks(16_000 * MB, BURST)
    free = mark.amber * 2

    def made(name: str, priority: int) -> InstanceSpec:
        demand = Demand(of=name, priority=priority)
        return sh(name, "sleep 600 & wait", demand=demand, hold=str(tmp_path / name / "hold"))

    specs = [made("low", 10), made("high", 90), sh("own", "exec sleep 600")]
    async with running(keeper, run_dir, server, specs, room=lambda: Room(16_000 * MB, free)) as node:
        await server.until(lambda: len(server.named("instance.ready")) == 3)
        free = mark.amber - MB
        async with asyncio.timeout(10):
            while node.semaphore.pressure.level != "amber":
                await asyncio.sleep(0.02)
        pids = {each.name: each.pid or 0 for each in node.status()}
        members = {name: Forest(look()).members(pid) for name, pid in pids.items()}
        async with asyncio.timeout(10):
            while {name: {score(each) for each in members[name]} for name in ("low", "high")} != {
                "low": {900}, "high": {300},
            }:  # fmt: skip
                await asyncio.sleep(0.02)
        assert {score(each) for each in members["own"]} in ({OURS}, {score(os.getpid())}), "it may not be lowered here"


async def test_one_that_has_just_started_is_ranked_by_its_importance(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    specs = [
        sh(
            name, f"echo {name} $$ >> {pids}; exec sleep 600", demand=Demand(of=name, priority=priority),
            hold=str(tmp_path / name / "hold"),
        ) for name, priority in (("low", 10), ("high", 100))
    ]  # fmt: skip
    async with running(keeper, run_dir, server, [*specs, sh("own", "exec sleep 600")]) as node:
        await server.until(lambda: len(server.named("instance.ready")) == 3)
        found = {each.name: score(each.pid or 0) for each in node.status()}
        assert (found["low"], found["high"]) == (840, 300)
        first = next(each.pid or 0 for each in node.status() if each.name == "low")
        os.kill(first, 9)
        await server.until(lambda: len(server.named("instance.ready", "low")) == 2)
        again = next(each.pid or 0 for each in node.status() if each.name == "low")
        assert again != first
        assert score(again) == 840, "also one that was made ready before"


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
