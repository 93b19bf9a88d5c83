"""What follows a life is ready before it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from node_house import ENV, Bell, Server, gone, kill, living, rings, spec

from relit.control.care import Care, ConfigFile, Ladder
from relit.control.local import LocalControl
from relit.control.values import Backoff, InstanceSpec, Probe
from relit.drivers.base import Exit, Launch
from relit.drivers.process import ProcessDriver
from relit.errors import RelitError
from relit.lib.ids import system_random
from relit.node import instance
from relit.node.client import KeeperClient, ensure_keeper
from relit.node.follower import Follower
from relit.node.node import Node
from relit.node.storm import Tokens

STABLE = Backoff(stable_ms=0)
AGENT = Care(agent="web", kind="command", home="/")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A life is followed from its first moment."""
    monkeypatch.setattr(instance, "FORESEE_MS", 0)


class Telling(ProcessDriver):
    """Says what was made ready."""

    def __init__(self, keeper: KeeperClient) -> None:
        super().__init__(keeper)
        self.made: asyncio.Queue[str] = asyncio.Queue()

    async def stand_by(self, launch: Launch, *, after: str, unless: Sequence[int] = ()) -> None:
        await super().stand_by(launch, after=after, unless=unless)
        self.made.put_nowait(launch.key)


@asynccontextmanager
async def kept(
    keeper: KeeperClient, run_dir: Path, server: Server, *wanted: InstanceSpec
) -> AsyncIterator[tuple[Node, Telling]]:
    driver = Telling(keeper)
    node = Node(LocalControl(server), driver, wanted, run_dir=run_dir, chance=system_random())
    await node.start()
    try:
        yield node, driver
    finally:
        await node.stop()


async def test_a_death_is_followed_by_what_stood_ready(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with kept(keeper, run_dir, server, spec("web", rings(bell), backoff=STABLE)) as (node, driver):
        pids = [int(await bell.next())]
        for number in range(1, 6):
            key = await driver.made.get()
            kill(pids[-1])
            pids.append(int(await bell.next()))
            assert (await server.saw("instance.started", number + 1))["pid"] == pids[-1]
            assert [life.key for life in await keeper.lives() if life.exit is None] == [key]
        assert node.status()[0].restarts == 5
        assert len(set(pids)) == 6
        assert [each["pid"] for each in server.named("instance.died")] == pids[:5]


async def test_when_it_is_stopped_nothing_follows(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with kept(keeper, run_dir, server, spec("web", rings(bell), backoff=STABLE)) as (_, driver):
        pid = int(await bell.next())
        await driver.made.get()
    await gone(pid)
    assert await keeper.lives() == []
    with pytest.raises(TimeoutError):
        await bell.next(timeout=0.2)


async def test_when_it_is_held_nothing_follows(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    held = spec("web", rings(bell), backoff=STABLE, hold=str(hold))
    async with kept(keeper, run_dir, server, held) as (node, driver):
        await bell.next()
        await driver.made.get()
        hold.write_text("a person wants it so")
        await server.saw("instance.held")
        assert [life for life in await keeper.lives() if life.exit is None] == []
        assert node.status()[0].state == "stopped"
        hold.unlink()
        await bell.next()


async def test_what_hangs_is_followed_at_once_too(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    pid = Probe(kind="pid", every_ms=50)
    async with kept(keeper, run_dir, server, spec("web", rings(bell), backoff=STABLE, live=[pid])) as (_, driver):
        first = int(await bell.next())
        await driver.made.get()
        os.kill(first, signal.SIGSTOP)
        assert int(await bell.next()) != first
        await server.saw("instance.started", 2)
        assert not living(first)
        assert len([life for life in await keeper.lives() if life.exit is None]) == 1


async def test_a_wrong_configuration_is_not_followed(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, tmp_path: Path
) -> None:
    script = f"echo $$ > {bell.path}; while ! test -e {tmp_path}/wrong; do sleep 0.01; done; exit 78"
    wanted = spec("web", ["sh", "-c", script], backoff=STABLE)
    async with kept(keeper, run_dir, server, wanted) as (node, driver):
        await bell.next()
        await driver.made.get()
        (tmp_path / "wrong").touch()
        assert (await server.saw("instance.restarting"))["delay_ms"] == STABLE.most_ms
        async with asyncio.timeout(15):
            while node.status()[0].state != "backing-off":
                await asyncio.sleep(0.005)
        assert [life for life in await keeper.lives() if life.exit is None] == []


async def test_who_would_wait_after_a_death_is_not_followed(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    patient = Backoff(first_ms=1, most_ms=1)  # stable after ten minutes
    async with kept(keeper, run_dir, server, spec("web", rings(bell), backoff=patient)) as (_, driver):
        for _ in range(2):
            kill(int(await bell.next()))
        await bell.next()
        await server.saw("instance.started", 3)
        while not driver.made.empty():
            driver.made.get_nowait()  # the first life's
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await driver.made.get()


async def test_who_is_never_simply_started_again_is_not_followed_and_costs_nothing(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    care = Care(agent="web", kind="command", home="/", ladder=Ladder(restarts=0))
    async with kept(keeper, run_dir, server, spec("web", rings(bell), backoff=STABLE, care=care)) as (_, driver):
        await bell.next()
        await server.saw("instance.ready")
        began = time.process_time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await driver.made.get()
        assert time.process_time() - began < 0.5, "it waits, it does not ask again and again"


@pytest.mark.parametrize(
    "changes",
    [
        {"care": Care(agent="web", kind="x", home="/", ports=[1])},
        {"care": Care(agent="web", kind="x", home="/", needs="/runtime")},
        {"care": Care(agent="web", kind="x", home="/", databases=["a.db"])},
        {"care": Care(agent="web", kind="x", home="/", config=[ConfigFile(path="a.json", format="json")])},
        {"ready": Probe(kind="file", target="/ready")},
    ],
)
async def test_what_is_looked_at_before_a_start_has_no_follower(
    keeper: KeeperClient, changes: dict[str, object]
) -> None:
    assert Follower(spec("web", ["true"], care=AGENT), ProcessDriver(keeper)).possible
    assert not Follower(spec("web", ["true"], **changes), ProcessDriver(keeper)).possible


async def test_what_stands_ready_takes_a_restart_token_and_waits_for_none(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("relit.node.node.Tokens", lambda clock: Tokens(clock, capacity=2, per_s=0.01))
    file = Probe(kind="file", target=str(tmp_path / "ready"))  # cleared before each start: nothing stands ready
    script = f"touch {file.target}; exec sleep 1000"
    other = spec("other", ["sh", "-c", script], backoff=STABLE, ready=file)
    async with kept(keeper, run_dir, server, spec("web", rings(bell), backoff=STABLE), other) as (node, driver):
        for _ in range(3):
            pid = int(await bell.next())
            await driver.made.get()
            kill(pid)
        await bell.next()
        await server.saw("instance.started", 4, "web")
        kill((await server.saw("instance.started", instance="other"))["pid"])
        async with asyncio.timeout(15):
            while {each.name: each.state for each in node.status()}["other"] != "backing-off":
                await asyncio.sleep(0.005)


# --- the keeper's part ----------------------------------------------------------------------------------------------


def waiting(key: str, bell: Bell) -> Launch:
    """At its gate it reads from descriptor 3, as bubblewrap does."""
    script = f"read -r -n 1 <&3; echo $$ > {bell.path}; exec sleep 1000"
    return Launch(key=key, name="web", argv=["bash", "-c", script], env=ENV)


def at_the_gate() -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if b"/web/k2" in text:
                found.add(int(name))
    return found


async def standing(keeper: KeeperClient, bell: Bell) -> tuple[int, set[int]]:
    first = await keeper.start_life(Launch(key="k1", name="web", argv=["sleep", "1000"], env=ENV))
    await keeper.stand_by(waiting("k2", bell), "k1", [], 3)
    async with asyncio.timeout(15):
        while len(pids := at_the_gate()) != 1:  # its environment shows a moment after it began
            await asyncio.sleep(0.005)
    return first.pid, pids


async def test_what_waits_at_its_gate_is_let_go_on(keeper: KeeperClient, bell: Bell) -> None:
    first, pids = await standing(keeper, bell)
    kill(first)
    assert {int(await bell.next())} == pids


@pytest.mark.parametrize("how", ["its client leaves", "the keeper is killed", "the keeper is ended", "it dies itself"])
async def test_nobody_is_left_at_the_gate(keeper: KeeperClient, run_dir: Path, bell: Bell, how: str) -> None:
    first, pids = await standing(keeper, bell)
    old = keeper.pid
    match how:
        case "its client leaves":
            await keeper.stop()
        case "the keeper is killed":
            kill(old)
        case "the keeper is ended":
            await keeper.stop()
            os.kill(old, signal.SIGTERM)
        case _:
            kill(next(iter(pids)))
    for pid in pids:
        await gone(pid)
    fresh = await ensure_keeper(run_dir)
    assert [life.key for life in await fresh.lives()] == ["k1"]
    if how != "the keeper is ended":
        kill(first)
    assert await fresh.ended("k1") in (Exit(signal=9), Exit(signal=15), Exit())
    with pytest.raises(TimeoutError):
        await bell.next(timeout=0.2)
    await fresh.stop()


async def test_a_gate_does_not_open_when_the_keeper_is_killed_first(keeper: KeeperClient, bell: Bell) -> None:
    await standing(keeper, bell)
    kill(keeper.pid)
    with pytest.raises(TimeoutError):
        await bell.next(timeout=0.5)


async def test_a_gate_is_a_descriptor_of_its_own(keeper: KeeperClient, bell: Bell) -> None:
    await keeper.start_life(Launch(key="k1", name="web", argv=["sleep", "1000"], env=ENV))
    with pytest.raises(RelitError, match="gate must be"):
        await keeper.stand_by(waiting("k2", bell), "k1", [], 1)


NAMESPACE = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]


async def test_what_ends_in_a_pid_namespace_is_followed_and_the_keeper_lives(keeper: KeeperClient, bell: Bell) -> None:
    """Its processes come to their own init and not to the keeper, which looks until they are gone."""
    if subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespaces here")
    for number in range(6):
        name, script = f"web{number}", f"sleep 1000 & sleep 1000 & echo up > {bell.path}; wait"
        argv = [*NAMESPACE, "sh", "-c", script]
        first = await keeper.start_life(Launch(key=f"k{number}", name=name, argv=argv, env=ENV))
        assert await bell.next() == "up"
        await keeper.stand_by(Launch(key=f"f{number}", name=name, argv=rings(bell), env=ENV), first.key, [], None)
        kill(first.pid)
        assert (await keeper.ended(first.key)).signal == signal.SIGKILL
        await bell.next()
    assert keeper.started == 1
