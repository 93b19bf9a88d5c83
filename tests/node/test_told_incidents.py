"""What incidents of a node say, and when they end."""

from __future__ import annotations

import socket
from pathlib import Path
from random import Random

import msgspec
import pytest
from healing_house import SOON, Home, Rescuer
from node_house import Bell, Server, gone, kill, rings, running, spec

from relit.control.care import Entry, Incident, KnownGood
from relit.lib.clock import SystemClock
from relit.node.client import KeeperClient
from relit.node.ladder import History, decide
from relit.node.trouble import Trouble, left_open


@pytest.fixture
async def server() -> Rescuer:
    return Rescuer()


@pytest.fixture
async def home(tmp_path: Path, server: Rescuer) -> Home:
    server.home = Home(tmp_path / "ada", server)
    return server.home


@pytest.mark.parametrize(("fault", "done"), [("damaged", ["volume"]), ("unusable", ["recreate"])])
async def test_a_home_goes_back_for_a_damaged_database_and_for_none_that_cannot_be_read(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell, fault: str, done: list[str]
) -> None:
    database = home.home / "a.db"
    if fault == "damaged":
        database.write_text("no database at all")
    else:
        database.symlink_to(home.tmp.parent / "a.db")
    server.good = KnownGood(number=4, at_ms=2**60, newest=6)
    care = msgspec.structs.replace(home.care, databases=["a.db"])
    async with running(keeper, run_dir, server, [home.spec(rings(bell), care)]):
        await server.until(lambda: any(each.rung == 4 for each in server.incidents))
    assert [each["action"] for each in server.named("instance.healed")] == done
    assert "a.db: " in server.incidents[-1].cause


async def test_what_its_ports_are_waited_for_is_not_why_it_died(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    care = msgspec.structs.replace(home.care, ports=[port])
    async with running(keeper, run_dir, server, [home.spec(rings(bell), care)]):
        pid = int(await bell.next())
        with socket.create_server(("127.0.0.1", port)):
            kill(pid)
            await server.until(lambda: any("is taken" in entry.what for entry in timeline(server)))
            assert server.incidents[-1].cause == "signal 9"
        await bell.next()


def timeline(server: Server) -> list[Entry]:
    return server.incidents[-1].timeline if server.incidents else []


async def test_the_incident_of_one_that_was_taken_away_while_no_node_ran_ends(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home
) -> None:
    folder = run_dir.parent / "agents" / "ada" / "incidents"
    wanted = msgspec.structs.replace(home.spec(["sh", "-c", "exit 1"]), record=str(folder))
    async with running(keeper, run_dir, server, [wanted]):
        await server.until(lambda: server.incidents)
    assert left_open(folder) is not None
    async with running(keeper, run_dir, server, [wanted], leave=True):
        assert left_open(folder) is not None, "it is wanted"
    async with running(keeper, run_dir, server, []):
        assert (await server.over()).timeline[-1].what == "it is wanted no more"
    assert left_open(folder) is None


@pytest.mark.parametrize("how", ["held", "removed"])
async def test_the_incident_of_who_is_wanted_no_more_ends(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, how: str, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    wanted = msgspec.structs.replace(home.spec(["sh", "-c", "exit 1"]), hold=str(hold))
    async with running(keeper, run_dir, server, [wanted]) as node:
        await server.until(lambda: server.incidents)
        if how == "held":
            hold.write_text("a person wants it so")
        else:
            await node.apply([])
        ended = await server.over()
        assert ended.timeline[-1].what in ("it was stopped: a person wants it so", "it is wanted no more")


async def test_what_cannot_be_started_says_why(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home
) -> None:
    async with running(keeper, run_dir, server, [home.spec(["no-such-program"])]):
        await server.until(lambda: server.incidents)
        assert "no-such-program" in server.incidents[0].cause


async def test_the_end_of_a_life_that_no_node_saw_is_in_the_incident_too(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [home.spec(rings(bell))], leave=True):
        pid = int(await bell.next())
        await server.saw("instance.ready")
    kill(pid)
    await gone(pid)
    async with running(keeper, run_dir, server, [home.spec(rings(bell))]):
        await bell.next()
        ended = await server.over()
    assert [each.what for each in ended.timeline] == ["it was killed (signal 9)", "ready again", "it is over"]


def test_the_impact_counts_the_time_that_it_was_away() -> None:
    clock, told = Stopped(), list[Incident]()
    trouble = Trouble(spec("ada", ["true"]), clock, told.append)
    verdict = decide(History(quick=1), "killed", policy=SOON, chance=Random(1), facts=None)
    for away_ms, alive_ms in ((2_000, 100_000), (3_000, 5_000)):
        trouble.ended(verdict, "killed", "signal 9", "")
        verdict = msgspec.structs.replace(verdict, first=False)
        clock.now += away_ms
        trouble.ready()
        clock.now += alive_ms
    assert told[-1].impact == "did not answer for 5.0s"


class Stopped(SystemClock):
    """Only its wall clock is asked for."""

    now = 1_000_000

    def now_ms(self) -> int:
        return self.now
