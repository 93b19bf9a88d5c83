"""A keeper with few descriptors, or many."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_house import ENV, Bell, gone, kill, living

from relit.drivers.base import Exit, Launch
from relit.errors import RelitError
from relit.node import keeper_boot, kin
from relit.node.client import KeeperClient, ensure_keeper


def started(run_dir: Path, soft: int, hard: int) -> None:
    """A keeper with these limits."""
    run_dir.mkdir(mode=0o700, exist_ok=True)
    limits = ["prlimit", f"--nofile={soft}:{hard}"]
    command = [*limits, sys.executable, "-I", "-S", keeper_boot.__file__, str(run_dir)]
    with (run_dir / "keeper.log").open("ab") as log:
        assert subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=log).stdout == b"ready"


@pytest.fixture
async def poor(run_dir: Path) -> AsyncIterator[KeeperClient]:
    """Its keeper may have 64."""
    started(run_dir, 64, 64)
    client = await ensure_keeper(run_dir)
    yield client
    await client.stop()


def sleeper(number: int) -> Launch:
    return Launch(key=f"k{number}", name=f"n{number}", argv=["sleep", "1000"], env=ENV)


def gated(number: int, bell: Bell) -> Launch:
    argv = ["bash", "-c", f"read -r -n 1 <&3; echo {number} > {bell.path}; exec sleep 1000"]
    return Launch(key=f"f{number}", name=f"n{number}", argv=argv, env=ENV)


async def test_a_keeper_that_may_watch_only_some_lives_kills_none(poor: KeeperClient, run_dir: Path) -> None:
    pids = [(await poor.start_life(sleeper(number))).pid for number in range(70)]
    old = poor.pid
    await poor.stop()
    kill(old)
    await gone(old)
    started(run_dir, 64, 64)
    fresh = await ensure_keeper(run_dir)
    assert [life.pid for life in await fresh.lives() if life.exit is None] == pids
    assert all(living(pid) for pid in pids)
    for pid in pids:  # those that had no descriptor are looked at, and get one when others have ended
        kill(pid)
    async with asyncio.timeout(20):
        ends = [await fresh.ended(f"k{number}") for number in range(70)]
    assert set(ends) <= {Exit(signal=9), Exit()}
    assert fresh.started == 0
    await fresh.stop()


async def test_a_gate_for_which_no_descriptor_is_left_is_refused(poor: KeeperClient, bell: Bell) -> None:
    first = [await poor.start_life(sleeper(number)) for number in range(70)]
    refused, told = [], set()
    for number in range(70):
        try:
            await poor.stand_by(gated(number, bell), f"k{number}", [], 3)
        except RelitError as error:
            refused.append(number)
            told.add(str(error))
    assert 0 < len(refused) < 70
    assert all("Too many open files" in each for each in told)
    assert refused == [*range(refused[0], 70)]
    kill(first[refused[0]].pid)
    kill(first[0].pid)
    assert await bell.next() == "0", "who has a gate goes on"
    assert (await poor.ended(f"k{refused[0]}")).signal == 9
    assert poor.started == 0
    assert len([life for life in await poor.lives() if life.exit is None]) == 69


async def test_children_get_the_limit_that_the_keeper_was_given(run_dir: Path, bell: Bell, tmp_path: Path) -> None:
    started(run_dir, 64, 1000)
    keeper = await ensure_keeper(run_dir)
    assert resource.prlimit(keeper.pid, resource.RLIMIT_NOFILE) == (1000, 1000)
    for number in range(70):
        await keeper.start_life(sleeper(number))
        await keeper.stand_by(gated(number, bell), f"k{number}", [], 3)
    argv = ["sh", "-c", f"echo $(ulimit -Sn) $(ulimit -Hn) > {bell.path}"]
    await keeper.start_life(Launch(key="k", name="n", argv=argv, env=ENV, log=str(tmp_path / "log")))
    assert await bell.next() == "64 1000"
    assert keeper.started == 0
    await keeper.stop()


def test_what_cannot_be_looked_at_is_not_taken_for_gone() -> None:
    me = kin.look(os.getpid())
    assert me is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        gone_now = kin.gone(me.pid, me.start)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not gone_now
    assert kin.gone(me.pid, me.start + 1)
