"""Agents held still: with a whole relit, with parts of it, without any."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relit.app import by_hand, instances, stillness
from relit.app.specs import specs as specs_of
from relit.app.stillness import InstanceFreezer, InstanceHolder, Instances
from relit.control.local import LocalControl
from relit.control.values import Death, Desired, InstanceSpec, NodeInfo
from relit.drivers.base import Launch
from relit.drivers.process import ProcessDriver
from relit.errors import Conflict, FreezeFailed, RelitError
from relit.lib import proc
from relit.lib.ids import system_random
from relit.node import holdfile, record, status
from relit.node.client import KeeperClient
from relit.node.down import down
from relit.node.holds import Hold
from relit.node.node import Node
from relit.settings import Environment, Settings, load

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
async def run_dir(tmp_path: Path) -> AsyncIterator[Path]:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    yield folder
    await down(folder)


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    return tmp_path / "agents" / "web" / "run" / "hold"


def holder(run_dir: Path, hold: Path, agent: str = "web", **options: float | bool) -> InstanceHolder:
    return InstanceHolder(run_dir, agent, lambda: Instances(["web"], [hold]), **options)  # type: ignore[arg-type]


class Silent:
    """A server that wants nothing."""

    async def hello(self, node: NodeInfo) -> None: ...

    async def report(self, events: object) -> None: ...

    async def desired(self, version: int, wait_s: float) -> Desired:
        await asyncio.sleep(wait_s)
        return Desired(version=1)

    async def worker_died(self, death: Death) -> None: ...


async def living(keeper: KeeperClient) -> list[int]:
    return [life.pid for life in await keeper.lives() if life.exit is None]


async def runs(keeper: KeeperClient, timeout: float = 10.0) -> int:
    async with asyncio.timeout(timeout):
        while not (found := await living(keeper)):
            await asyncio.sleep(0.005)
        return found[0]


# --- freezing -------------------------------------------------------------------------------------------------------


async def test_there_is_nothing_to_freeze_without_a_keeper(tmp_path: Path) -> None:
    freezer = InstanceFreezer(tmp_path / "nowhere", lambda: ["web"])
    assert not await freezer.freeze()
    assert not await freezer.thaw()
    assert not (tmp_path / "nowhere").exists()  # nothing was started for it


async def test_what_does_not_run_is_not_frozen(keeper: KeeperClient, run_dir: Path) -> None:
    freezer = InstanceFreezer(run_dir, lambda: ["web"])
    assert not await freezer.freeze()
    assert not await freezer.thaw()


async def test_a_freezer_is_used_again_and_again(keeper: KeeperClient, run_dir: Path) -> None:
    life = await keeper.start_life(Launch(key="k", name="web", argv=["sleep", "1000"], env=ENV))
    freezer = InstanceFreezer(run_dir, lambda: ["web"])
    for _ in range(3):
        assert await freezer.freeze()
        with pytest.raises(FreezeFailed, match="already"):
            await freezer.freeze()
        assert (await keeper.lives())[0].frozen_ms is not None
        assert await freezer.thaw()
        assert not await freezer.thaw()
        assert (await keeper.lives())[0].frozen_ms is None
    assert proc.start_time(life.pid) is not None


async def test_processes_without_a_keeper_are_not_taken_for_standing_still(keeper: KeeperClient, run_dir: Path) -> None:
    await keeper.start_life(Launch(key="k", name="web", argv=["sleep", "1000"], env=ENV))
    await keeper.stop()
    os.kill(keeper.pid, signal.SIGKILL)
    freezer = InstanceFreezer(run_dir, lambda: ["web"])
    with pytest.raises(FreezeFailed):
        await freezer.freeze()


# --- holding --------------------------------------------------------------------------------------------------------


async def test_holding_works_when_nothing_runs(tmp_path: Path, hold: Path) -> None:
    held = holder(tmp_path / "nowhere", hold)
    await held.hold("restore of\nsnapshot 3")
    assert hold.read_text() == "restore of snapshot 3\nweb\n"
    await held.hold("again")  # after a crash
    await held.release()
    await held.release()
    assert list(hold.parent.iterdir()) == []


async def test_a_node_stops_what_is_held_and_starts_it_afterwards(
    keeper: KeeperClient, run_dir: Path, hold: Path
) -> None:
    # Stubborn: it takes the grace until SIGKILL.
    argv = ["sh", "-c", "trap '' TERM; while :; do sleep 0.02; done"]
    spec = InstanceSpec(name="web", argv=argv, env=ENV, hold=str(hold), grace_ms=300)
    node = Node(LocalControl(Silent()), ProcessDriver(keeper), [spec], run_dir=run_dir, chance=system_random())
    await node.start()
    try:
        held = holder(run_dir, hold)
        for _ in range(3):
            pid = await runs(keeper)
            await held.hold("why")
            assert proc.start_time(pid) is None
            assert await living(keeper) == []
            began = time.perf_counter()
            await held.release()
            assert await runs(keeper) != pid
            assert time.perf_counter() - began < 2.0
    finally:
        await node.stop()


async def test_holding_in_the_moment_of_a_start_leaves_nothing_running(
    keeper: KeeperClient, run_dir: Path, hold: Path
) -> None:
    spec = InstanceSpec(name="web", argv=["sleep", "1000"], env=ENV, hold=str(hold))
    node = Node(LocalControl(Silent()), ProcessDriver(keeper), [spec], run_dir=run_dir, chance=system_random())
    await node.start()
    try:
        held = holder(run_dir, hold)
        for number in range(30):
            await held.hold("why")
            assert await living(keeper) == []
            await asyncio.sleep(0.002)
            assert await living(keeper) == []
            await held.release()
            await asyncio.sleep(0.0005 * number)  # the moment is the point
        assert await runs(keeper)
    finally:
        await node.stop()


@pytest.mark.parametrize("keeper_dies", [False, True])
async def test_without_a_node_the_holder_ends_what_runs(
    keeper: KeeperClient, run_dir: Path, hold: Path, keeper_dies: bool
) -> None:
    argv = ["sh", "-c", "trap '' TERM; while :; do sleep 0.02; done"]
    life = await keeper.start_life(Launch(key="k", name="web", argv=argv, env=ENV))
    other = await keeper.start_life(Launch(key="o", name="other", argv=["sleep", "1000"], env=ENV))
    if keeper_dies:
        await keeper.stop()
        os.kill(keeper.pid, signal.SIGKILL)
    await holder(run_dir, hold, grace_s=0.3).hold("why")
    assert proc.start_time(life.pid) is None
    assert proc.start_time(other.pid) is not None


async def test_what_does_not_stop_is_told_and_let_go(
    keeper: KeeperClient, run_dir: Path, hold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stillness, "MARGIN_S", 0.1)
    record.write(run_dir, record.NodeRecord(process=proc.myself()))  # a node that does nothing
    await keeper.start_life(Launch(key="k", name="web", argv=["sleep", "1000"], env=ENV))
    with pytest.raises(RelitError, match="web was not stopped"):
        await holder(run_dir, hold, grace_s=0.1).hold("why")
    assert not hold.exists()


async def test_of_two_agents_in_one_process_one_is_held_at_a_time(run_dir: Path, hold: Path) -> None:
    first, second = holder(run_dir, hold, "web"), holder(run_dir, hold, "other")
    await first.hold("why")
    with pytest.raises(Conflict, match="web holds"):
        await second.hold("why")
    await second.release()
    assert hold.exists()
    await first.release()
    await second.hold("why")


async def test_a_restart_neither_ends_a_restores_hold_nor_keeps_one_from_it(run_dir: Path, hold: Path) -> None:
    """Else an agent starts in the middle of a restore, since a message is delivered to it again."""
    restore, restart = holder(run_dir, hold), holder(run_dir, hold, brief=True)
    await restore.hold("restore")
    with pytest.raises(Conflict, match="web holds"):
        await restart.hold("again")
    await restart.release()
    assert hold.read_text() == "restore\nweb\n"
    await restore.release()

    await restart.hold("again")
    await restore.hold("restore")
    await restart.release()
    assert hold.read_text() == "restore\nweb\n"


async def test_a_restart_whose_process_died_holds_nothing(run_dir: Path, hold: Path) -> None:
    await holder(run_dir, hold, brief=True).hold("again")
    text = hold.read_text()
    assert Hold(str(hold)).look() == "again"
    hold.write_text(text.replace(f'"start":{proc.myself().start}', '"start":1'))
    assert hold.read_text() != text
    assert Hold(str(hold)).look() is None
    assert not hold.exists()


async def test_what_a_person_holds_stays_held(run_dir: Path, hold: Path) -> None:
    hold.parent.mkdir(parents=True)
    hold.write_text("I am looking into it\n")
    held = holder(run_dir, hold)
    await held.hold("restore")
    now = Hold(str(hold))
    assert (now.look(), now.by_person) == ("restore", True)
    await held.release()
    assert hold.read_text() == "I am looking into it\n"


async def test_neither_a_person_nor_a_restore_ends_the_others_hold(run_dir: Path, hold: Path) -> None:
    """Else an agent starts in the middle of a restore, because somebody stops it and starts it again."""
    text = 'agents = { web = { kind = "command", command = ["x"] } }\n'
    made = settings(run_dir.parent, text)
    hold = instances.hold_of(made, "web")
    restore = holder(run_dir, hold)
    await restore.hold("restore")
    by_hand.hold(made, "web")
    assert by_hand.held(made, "web")
    by_hand.let(made, "web")
    assert Hold(str(hold)).look() == "restore"
    assert not by_hand.held(made, "web")
    by_hand.hold(made, "web", "I look into it")
    await restore.release()
    assert Hold(str(hold)).look() == "I look into it"
    await restore.hold("again")
    by_hand.let(made, "web")
    assert Hold(str(hold)).look() == "again"
    await restore.release()
    assert not hold.exists()


async def test_a_command_that_dies_under_a_restore_takes_only_its_own_word_along(run_dir: Path, hold: Path) -> None:
    restore = holder(run_dir, hold)
    await restore.hold("restore")
    dead = holdfile.mine().replace(f'"start":{proc.myself().start}', '"start":1')
    with holdfile.changing(hold) as change:
        change.now = change.was._replace(person=f"an upgrade\n\n{dead}\n")
    now = Hold(str(hold))
    assert (now.look(), now.by_person) == ("restore", False)
    await restore.release()
    assert not hold.exists()


def test_who_changes_a_hold_file_now_is_not_waited_for_by_a_node(hold: Path) -> None:
    hold.parent.mkdir(parents=True)
    dead = holdfile.mine().replace(f'"start":{proc.myself().start}', '"start":1')
    hold.write_text(f"an upgrade\n\n{dead}\n")
    now = Hold(str(hold))
    with holdfile.changing(hold):
        assert now.look() is not None, "it is looked at again"
    assert now.look() is None


# --- which instances ------------------------------------------------------------------------------------------------


def settings(folder: Path, text: str, **variables: str) -> Settings:
    path = folder / "relit.toml"
    path.write_text(text)
    environment = Environment({"HOME": str(folder), "RELIT_DATA": str(folder / "data"), **variables})
    return load(path, environment=environment)


def test_an_agent_lives_in_its_own_instances_and_where_its_code_runs(tmp_path: Path) -> None:
    given = settings(tmp_path, '[agents.two]\nentry = "x"\nworkers = 2\n[agents.one]\nentry = "x"\n')
    instances.join(given, "two", ["two", "guest", "one"])
    instances.join(given, "mine", ["guest"])
    assert instances.residence(given, "two").instances == ["two-1", "two-2"]
    assert instances.residence(given, "one").instances == ["one", "two-1", "two-2"]
    guest = instances.residence(given, "guest")
    assert guest.instances == ["guest", "mine", "two-1", "two-2"]
    assert [path.parent.parent.name for path in guest.holds] == ["guest", "mine", "two"]
    assert guest.home == tmp_path / "data" / "agents" / "guest" / "home"
    assert instances.homes_of(given) == ["one", "two"]
    instances.make_home(given, "guest")
    assert instances.homes_of(given) == ["guest", "one", "two"]


def test_instances_are_told_their_home_and_can_be_held(tmp_path: Path) -> None:
    text = '[agents.tool]\nkind = "command"\ncommand = ["x"]\nworkers = 2\n'
    given = settings(tmp_path, text)
    environment = Environment({"PATH": "/bin", "RELIT_HOME": "/of/somebody/else"})
    specs = {each.name: each for each in specs_of(given, environment, ["agents/mine.py"])}
    home = tmp_path / "data" / "agents" / "tool" / "home"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in instances.copies(given, "tool"):
        assert specs[name].env["RELIT_HOME"] == str(home)
        assert specs[name].hold == str(home.with_name("run") / "hold")
    assert "RELIT_HOME" not in specs["mine"].env
    assert specs["mine"].hold == str(tmp_path / "data" / "agents" / "mine" / "run" / "hold")
    assert specs["server"].hold is None


# --- a whole relit --------------------------------------------------------------------------------------------------

MODULE = """
import relit


@relit.agent(name="clerk")
async def clerk(ctx: relit.Context, message: object) -> str:
    def note() -> str:
        (ctx.home / "notes").write_text(str(message))
        return str(ctx.home)

    return await ctx.step(note)
"""

TOML = """
[agents.ticker]
kind = "command"
command = ["sh", "-c", "while :; do date +%N > $RELIT_HOME/tick; sleep 0.005; done"]
[agents.ticker.snapshots]
enabled = false
"""


class Whole:
    """``relit`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        (folder / "clerks.py").write_text(MODULE)
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as door:
            variables = {"RELIT_SERVER__LISTEN": f"127.0.0.1:{door.getsockname()[1]}"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RELIT_") and key != "CI"}
        self._environment = kept | variables | {"HOME": str(folder), "RELIT_DATA": str(folder / "data")}
        self.settings = settings(folder, TOML, **variables)

    def relit(self, *words: str) -> str:
        command = [sys.executable, "-m", "relit.cli", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Whole]:
    made = Whole(tmp_path)
    try:
        made.relit("up", "clerks")
        yield made
    finally:
        made.relit("down")


def parts(whole: Whole, agent: str) -> tuple[InstanceFreezer, InstanceHolder]:
    where = whole.settings.data / "run"

    def what() -> Instances:
        found = instances.residence(whole.settings, agent)
        return Instances(found.instances, found.holds)

    return InstanceFreezer(where, lambda: what().names), InstanceHolder(where, agent, what)


def pid_of(whole: Whole, name: str) -> int | None:
    return next(each.pid for each in status.read(whole.settings.data / "run").instances if each.name == name)


@pytest.mark.slow
async def test_agents_under_relit_up_are_frozen_and_held(whole: Whole) -> None:
    freezer, holder = parts(whole, "ticker")
    tick = instances.home_of(whole.settings, "ticker") / "tick"

    async def moves(since: str) -> None:
        async with asyncio.timeout(5):
            while not tick.exists() or tick.read_text() in ("", since):
                await asyncio.sleep(0.005)

    await moves("")
    assert await freezer.freeze()
    said = tick.read_text()
    await asyncio.sleep(0.1)
    assert tick.read_text() == said
    assert await freezer.thaw()
    await moves(said)

    await holder.hold("restore of snapshot 7")
    shown = await asyncio.to_thread(whole.relit, "--json", "ps")
    assert "restore of snapshot 7" in shown
    await holder.release()
    await moves(said)


@pytest.mark.slow
async def test_what_a_person_holds_does_not_keep_relit_from_starting(whole: Whole) -> None:
    await asyncio.to_thread(whole.relit, "down")
    hold = instances.hold_of(whole.settings, "ticker")
    hold.write_text("I am looking into it\n")
    tick = instances.home_of(whole.settings, "ticker") / "tick"
    tick.unlink()
    await asyncio.to_thread(whole.relit, "up", "clerks")
    shown = await asyncio.to_thread(whole.relit, "--json", "ps")
    assert "I am looking into it" in shown
    assert not tick.exists()
    hold.unlink()
    async with asyncio.timeout(5):
        while not tick.exists():
            await asyncio.sleep(0.005)


@pytest.mark.slow
async def test_an_agent_of_a_module_is_held_with_its_worker(whole: Whole) -> None:
    told = await asyncio.to_thread(whole.relit, "send", "clerk", "hello", "--wait", "--timeout", "30s")
    home = instances.home_of(whole.settings, "clerk")
    assert str(home) in told
    assert (home / "notes").read_text() == "hello"
    assert instances.residence(whole.settings, "clerk").instances == ["clerk", "clerks"]
    freezer, holder = parts(whole, "clerk")
    for _ in range(10):
        with contextlib.suppress(FreezeFailed):  # relit takes a snapshot itself just now
            assert await freezer.freeze()
            break
        await asyncio.sleep(0.05)
    assert await freezer.thaw()
    worker = pid_of(whole, "clerks")
    assert worker is not None
    await holder.hold("restore")
    assert proc.start_time(worker) is None
    await holder.release()
    await asyncio.to_thread(whole.relit, "send", "clerk", "again", "--wait", "--timeout", "30s")
    assert (home / "notes").read_text() == "again"
