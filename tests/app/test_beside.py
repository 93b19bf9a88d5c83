"""Commands that a gateway runs beside an agent: they stand still with it, and end before its home is put back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relit.app.beside import Beside
from relit.app.stillness import InstanceFreezer, InstanceHolder, Instances
from relit.app.strict import StrictTools
from relit.control.values import TOOLS, lives_of
from relit.drivers.base import Launch
from relit.gateway.tools.base import NotSent
from relit.gateway.tools.http import HttpTools
from relit.lib import proc
from relit.node import guests
from relit.node.client import KeeperClient
from relit.node.down import down
from relit.settings import Environment, Settings, load
from relit.store.tools import ToolCall

ENV = {"PATH": os.environ["PATH"]}
COUNTS = 'import sys, time\nfor n in range(10**9): print(n, file=open("count", "w")); time.sleep(0.001)'
CONFIG = '[agents.web]\nkind = "command"\ncommand = ["sleep", "1000"]\nsandbox = "off"\n'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "relit.toml").write_text(CONFIG)
    return load(tmp_path / "relit.toml", environment=Environment(ENV), data=tmp_path / "data")


@pytest.fixture
async def run_dir(settings: Settings) -> AsyncIterator[Path]:
    folder = settings.data / "run"
    folder.mkdir(mode=0o700, parents=True)
    (settings.data / "agents/web/home").mkdir(parents=True)
    yield folder
    await down(folder)


def freezer(run_dir: Path) -> InstanceFreezer:
    return InstanceFreezer(run_dir, lambda: lives_of(["web"]))


def holder(run_dir: Path, settings: Settings) -> InstanceHolder:
    hold = settings.data / "agents/web/run/hold"
    return InstanceHolder(run_dir, "web", lambda: Instances(lives_of(["web"]), [hold]))


def ended(beside: Beside, child: subprocess.Popen[bytes]) -> bool:
    """Answers whether somebody else had done it."""
    cut = beside.over()
    assert child.wait(5) == -9
    return cut


async def counting(settings: Settings, place: Path, id: str = "call-1") -> tuple[Beside, subprocess.Popen[bytes]]:
    """A command that counts in a file of ``place``, once it does."""
    beside = Beside(settings, "web", id)
    async with beside.starting():
        child = subprocess.Popen(["python3", "-c", COUNTS], env={**ENV, **beside.marks}, cwd=place)
    await until_it_counts(place)
    return beside, child


async def until_it_counts(place: Path) -> None:
    before = number(place)
    async with asyncio.timeout(20):
        while number(place) in (before, ""):
            await asyncio.sleep(0.002)


def number(place: Path) -> str:
    return (place / "count").read_text().strip() if (place / "count").exists() else ""


def test_both_sides_call_them_the_same() -> None:
    assert TOOLS == guests.NAME


@pytest.mark.parametrize("alive", [True, False])
async def test_a_command_stands_still_with_its_agent_or_without(
    settings: Settings, keeper: KeeperClient, run_dir: Path, tmp_path: Path, alive: bool
) -> None:
    if alive:
        await keeper.start_life(Launch(key="k", name="web", argv=["sleep", "1000"], env=ENV))
    beside, child = await counting(settings, tmp_path)
    held = freezer(run_dir)
    for _ in range(3):
        assert await held.freeze()
        before = number(tmp_path)
        time.sleep(0.05)  # nobody here lets it go meanwhile
        assert number(tmp_path) == before
        assert child.pid in (held.pids() or ())
        assert await held.thaw()
        await until_it_counts(tmp_path)
    assert not ended(beside, child)


async def test_none_is_begun_while_its_agent_stands_still(
    settings: Settings, keeper: KeeperClient, run_dir: Path, tmp_path: Path
) -> None:
    await keeper.start_life(Launch(key="k", name="web", argv=["sleep", "1000"], env=ENV))
    assert not ended(*await counting(settings, tmp_path))
    held = freezer(run_dir)
    assert await held.freeze()
    late = asyncio.create_task(counting(settings, tmp_path, "call-2"))
    assert not (await asyncio.wait([late], timeout=0.2))[0]
    assert await held.thaw()
    assert not ended(*await late)


async def test_one_that_is_being_begun_is_waited_for(settings: Settings, keeper: KeeperClient, run_dir: Path) -> None:
    await keeper.start_life(Launch(key="k", name="web", argv=["sleep", "1000"], env=ENV))
    held = freezer(run_dir)
    async with Beside(settings, "web", "call-1").starting():
        freezing = asyncio.create_task(held.freeze())
        assert not (await asyncio.wait([freezing], timeout=0.03))[0]
    assert await freezing
    assert await held.thaw()


async def test_what_has_ended_leaves_nothing_to_freeze(
    settings: Settings, keeper: KeeperClient, run_dir: Path, tmp_path: Path
) -> None:
    assert not ended(*await counting(settings, tmp_path))
    assert not await freezer(run_dir).freeze()
    assert await freezer(run_dir).freeze() is False  # nobody was left holding the folder


async def test_a_killed_keeper_leaves_no_command_stopped(
    settings: Settings, keeper: KeeperClient, run_dir: Path, tmp_path: Path
) -> None:
    beside, child = await counting(settings, tmp_path)
    held = freezer(run_dir)
    assert await held.freeze()
    os.kill(keeper.pid, 9)
    assert not await held.thaw()
    await until_it_counts(tmp_path)
    assert not ended(beside, child)


async def test_a_hold_ends_them_and_keeps_others_away(
    settings: Settings, keeper: KeeperClient, run_dir: Path, tmp_path: Path
) -> None:
    beside, child = await counting(settings, tmp_path)
    held = holder(run_dir, settings)
    await held.hold("its home is put back")
    assert ended(beside, child)
    with pytest.raises(NotSent, match="its home is put back") as refused:
        await counting(settings, tmp_path, "call-2")
    assert refused.value.retry
    assert guests.listed(guests.folder_of(str(run_dir), "web")) == []
    await held.release()
    assert not ended(*await counting(settings, tmp_path, "call-3"))


async def test_a_shell_command_says_that_it_was_ended(settings: Settings, run_dir: Path, tmp_path: Path) -> None:
    tools = StrictTools(settings, Environment(ENV), HttpTools([]))
    call = ToolCall(id="call-1", agent="web", tool="shell", effect="ask", hash="h")
    sending = asyncio.create_task(tools.send(call, {"command": "echo begun > mark; sleep 1000"}))
    async with asyncio.timeout(20):
        while not (tmp_path / "mark").exists():
            await asyncio.sleep(0.01)
    held = holder(run_dir, settings)
    await held.hold("its home is put back")
    outcome = await sending
    await held.release()
    assert outcome.failed
    assert "put back" in outcome.content[0]["text"]
    assert proc.kill_marked("call-1") == []
