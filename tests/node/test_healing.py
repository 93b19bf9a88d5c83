"""Rungs 2 to 4 on real processes: what is done, in which order, and what the incident says of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from healing_house import GOOD, QUICK, Home, Rescuer
from log_house import fill, mounted
from node_house import Bell, Server, gone, kill, living, rings, running, spec

from relit.control.care import EnvFile, KnownGood, Repair, Tried, Went
from relit.control.values import Activity, Demand, Probe, lives_of
from relit.errors import FreezeFailed, RelitError, ServerUnreachable, StoreFull, VolumeError, VolumeTooLarge
from relit.node import record
from relit.node.client import KeeperClient
from relit.node.ladder import History


@pytest.fixture
async def server() -> Rescuer:
    return Rescuer()


@pytest.fixture
async def home(tmp_path: Path, server: Rescuer) -> Home:
    server.home = Home(tmp_path / "ada", server)
    return server.home


def actions(server: Server) -> list[str]:
    return [each["action"] for each in server.named("instance.healed")]


async def test_a_configuration_is_made_to_say_what_it_must_before_a_start(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [home.spec(rings(bell))]):
        await bell.next()
        assert json.loads(home.config.read_text()) == {"mode": "local", "port": 7}


async def test_a_file_of_variables_is_made_to_say_what_it_must_before_a_start(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    (home.home / ".env").write_text("PORT=1 # mine\nKEY=a\n")
    care = msgspec.structs.replace(home.care, config=[], env_file=EnvFile(path=".env", keep={"PORT": "7", "NEW": "x"}))
    async with running(keeper, run_dir, server, [home.spec(rings(bell), care)]):
        await bell.next()
        assert (home.home / ".env").read_text() == "PORT=7 # mine\nKEY=a\n"


async def test_a_fault_of_a_file_of_variables_is_no_fault_of_the_configuration(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    """It is not put back for that, further and further."""
    others = home.tmp.parent / "others.env"
    others.write_text("PORT=1\n")
    (home.home / ".env").symlink_to(others)
    care = msgspec.structs.replace(home.care, env_file=EnvFile(path=".env", keep={"PORT": "7"}))
    async with running(keeper, run_dir, server, [home.spec(rings(bell), care)]):
        await server.until(lambda: any(each.rung == 4 for each in server.incidents))
    assert actions(server) == ["recreate"]
    assert not any(server.thought_broken)


@pytest.mark.parametrize("broken", ["{", "[1]", "", None])
async def test_a_broken_configuration_is_put_back_before_the_agent_starts_on_it(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell, broken: str | None
) -> None:
    home.config.unlink()
    if broken is not None:
        home.config.write_text(broken)
    server.good = KnownGood(number=4, at_ms=1, newest=6, config={"a.json": "-{\n+broken"})
    async with running(keeper, run_dir, server, [home.spec(rings(bell))]):
        await bell.next()
        assert json.loads(home.config.read_text())["mode"] == "local"
        incident = await server.over()
    assert ("go_back", "ada", 4, "a.json") in server.asked
    assert actions(server) == ["config"]
    assert (incident.agent, incident.rung, incident.severity) == ("ada", 3, "warning")
    assert "a.json" in incident.cause
    assert incident.config == server.good.config
    [done] = [each for each in incident.timeline if each.took_ms is not None]
    assert "snapshot 4" in done.outcome
    assert home.incidents() == [incident]


async def test_what_keeps_dying_climbs_to_the_top_and_is_tried_for_ever(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    (home.tmp / "left").mkdir()
    (home.home / "x.lock").touch()
    repair = Repair(argv=["sh", "-c", f"echo repaired > {bell.path}"])
    care = msgspec.structs.replace(home.care, repair=repair)
    server.good = KnownGood(number=4, at_ms=2**60, newest=6, config={"a.json": "-x"}, older=[(2, 2**60)])
    dies = rings(bell, "exit 3")
    async with running(keeper, run_dir, server, [home.spec(dies, care)]) as node:
        await server.until(lambda: any(each.rung == 4 for each in server.incidents))
        await server.saw("instance.restarting", 10)
        assert node.status()[0].restarts >= 9
    assert actions(server) == ["recreate", "config", "repair", "volume", "volume"]
    assert list(home.tmp.iterdir()) == []
    assert not (home.home / "x.lock").exists()
    assert [each for each in server.asked if each[0] == "go_back"] == [
        ("go_back", "ada", 4, "a.json"), ("go_back", "ada", 4), ("go_back", "ada", 2),
    ]  # fmt: skip
    last = server.incidents[-1]
    assert (last.severity, last.exit, last.next) == ("critical", "exit 3", "relit logs ada -n 100")
    said = [each.outcome for each in last.timeline if each.took_ms is not None]
    assert "1 things in tmp, x.lock removed" in said[0]
    assert said[2].endswith("exit 0")
    words = [await bell.next() for _ in range(6)]
    assert "repaired" in words


async def test_the_newest_older_home_that_a_clone_comes_up_with_is_gone_back_to(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home
) -> None:
    server.good = KnownGood(
        number=9, at_ms=2**60, newest=10, older=[(each, 2**60) for each in (8, 7, 6, 5, 4)], clones=True
    )
    server.broken = {8: "it ended with exit 1", 7: "a database of its is damaged"}
    async with running(keeper, run_dir, server, [home.spec(["sh", "-c", "exit 3"])]):
        await server.until(lambda: any(each.rung == 4 for each in server.incidents))
    assert [each[2:] for each in server.asked if each[0] == "try_home"] == [(8,), (7,), (5,), (6,)]
    assert [each for each in server.asked if each[0] == "go_back"] == [("go_back", "ada", 9), ("go_back", "ada", 6)]
    [done] = [each for each in server.incidents[-1].timeline if each.what.startswith("looked for an older home")]
    assert done.outcome.startswith("snapshot 6, of 4 tried in a clone: 8 it ended with exit 1; 7 a database of its is")


def remembered(run_dir: Path) -> History:
    found = record.read(run_dir)
    assert found is not None
    return found.histories["ada"]


async def test_a_person_who_stops_it_or_changes_its_table_ends_its_trouble(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    dies = msgspec.structs.replace(home.spec(["sh", "-c", "exit 3"]), hold=str(hold))
    lives = msgspec.structs.replace(dies, argv=["sleep", "1000"])
    async with running(keeper, run_dir, server, [dies], leave=True):
        await server.until(lambda: any(each.rung == 4 for each in server.incidents))
    async with running(keeper, run_dir, server, [dies], leave=True) as node:
        assert remembered(run_dir).rung == 4
        await node.apply([lives])
        await server.saw("instance.ready")
        await node.apply([dies])
        await server.until(lambda: remembered(run_dir).rung == 4)
        hold.write_text("stopped by hand\n")
        await server.saw("instance.held")
        async with asyncio.timeout(10):
            while (now := remembered(run_dir)).quick:
                await asyncio.sleep(0.01)
        assert now == History(restarts=now.restarts, deaths=now.deaths)


async def test_a_person_who_stops_it_meanwhile_ends_the_search(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, tmp_path: Path
) -> None:
    hold, asked = tmp_path / "hold", asyncio.Event()

    class Slow(Rescuer):
        async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
            asked.set()
            return await asyncio.Future()

    slow = Slow()
    slow.home = home
    slow.good = KnownGood(number=9, at_ms=2**60, newest=9, older=[(8, 2**60)], clones=True)
    made = msgspec.structs.replace(home.spec(["sh", "-c", "exit 3"]), hold=str(hold))
    async with running(keeper, run_dir, slow, [made]) as node:
        await asyncio.wait_for(asked.wait(), 20)
        now = remembered(run_dir)
        assert (now.tried, now.cut) == (("recreate",), 1), "a node that dies in the middle of it has not tried it"
        hold.write_text("stopped by hand\n")
        await slow.saw("instance.held")
        assert [(each.state, each.reason) for each in node.status()] == [("stopped", "stopped by hand")]
    assert not [each for each in slow.asked if each[0] == "go_back"]


async def test_what_was_done_about_a_death_is_given_its_chance_by_the_next_node(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home
) -> None:
    """It waits for room to start on the configuration that was put back: the next node must not go a rung further."""
    server.good = KnownGood(number=4, at_ms=2**60, newest=6, config={"a.json": "-x"})
    large = Demand(of="large", peak=1 << 50, settled=1 << 50)
    care = msgspec.structs.replace(home.care, repair=Repair(argv=["true"]))
    go = run_dir / "go"
    os.mkfifo(go)
    dies = ["sh", "-c", f"read go < {go}; exit 78"]  # of one process, so that what it takes is soon known
    wanted = msgspec.structs.replace(home.spec(dies, care), demand=large)
    never = Probe(kind="file", target=str(run_dir / "never"))
    other = spec("other", ["sleep", "1000"], demand=large, ready=never)
    async with running(keeper, run_dir, server, [wanted], leave=True, reserve=1 << 50) as node:
        await server.saw("instance.ready")
        await node.take([wanted, other])
        await server.saw("instance.started", instance="other")
        await asyncio.to_thread(go.write_text, "\n")
        await server.saw("instance.waiting", instance="ada")
    async with running(keeper, run_dir, server, [wanted]):
        await server.saw("instance.started", 2, "ada")
    assert actions(server) == ["config"]
    assert [each["code"] for each in server.named("instance.died", "ada")] == [78, None], (
        "once, and the end of the test"
    )


async def test_a_configuration_that_nobody_lived_on_is_not_refused_by_the_next_node(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home
) -> None:
    """Its node died while it was put back: the death that the next one finds was of what was there before."""

    back = asyncio.Event()

    class Deaf(Rescuer):
        async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
            await super().go_back(agent, number, files)
            back.set()
            return await asyncio.Future()

    deaf = Deaf()
    deaf.home = home
    deaf.good = server.good = KnownGood(number=4, at_ms=2**60, newest=6, config={"a.json": "-x"})
    dies = home.spec(["sh", "-c", f"grep -q local {home.config} || exit 78; exec sleep 1000"])
    home.config.write_text('{"mode": "ruined"}\n')
    async with running(keeper, run_dir, deaf, [dies], leave=True):
        await asyncio.wait_for(back.wait(), 20)
    assert (deaf.thought_broken, home.config.read_text()) == ([True], GOOD)
    async with running(keeper, run_dir, server, [dies]):
        await server.saw("instance.ready")
    assert server.thought_broken == [False]


async def test_what_the_server_was_away_for_is_tried_again(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home
) -> None:
    class Restarted(Rescuer):
        cuts = 2

        async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
            if self.cuts:
                self.cuts -= 1
                raise ServerUnreachable("no server answers the node")
            return await super().try_home(agent, number, within_ms)

    away = Restarted()
    away.home = home
    away.good = KnownGood(number=9, at_ms=2**60, newest=9, older=[(8, 2**60)], clones=True)
    async with running(keeper, run_dir, away, [home.spec(["sh", "-c", "exit 3"])]):
        await away.until(lambda: any(each.rung == 4 for each in away.incidents))
    assert ("go_back", "ada", 8) in away.asked
    said = [each.outcome for each in away.incidents[-1].timeline if each.what.startswith("looked for an older home")]
    assert [each.partition(" ")[0] for each in said] == ["failed:", "failed:", "snapshot"]


async def test_when_no_older_home_comes_up_the_agent_keeps_its_own(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home
) -> None:
    server.good = KnownGood(number=9, at_ms=2**60, newest=9, older=[(8, 2**60), (7, 2**60)], clones=True)
    server.broken = {8: "it ended with exit 1", 7: "not in 60 s"}
    async with running(keeper, run_dir, server, [home.spec(["sh", "-c", "exit 3"])]):
        await server.until(lambda: any(each.rung == 4 for each in server.incidents))
    assert not [each for each in server.asked if each[0] == "go_back"]
    [done] = [each for each in server.incidents[-1].timeline if each.what.startswith("looked for an older home")]
    assert done.outcome == ("failed: no older home of ada came up in a clone (8 it ended with exit 1; 7 not in 60 s)")


@pytest.mark.parametrize("error", [StoreFull("no room"), VolumeTooLarge("no room"), FreezeFailed("no room")])
@pytest.mark.parametrize("code", [3, 78])
async def test_volumes_that_refuse_to_say_what_is_good_keep_nobody_from_being_told(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, error: RelitError, code: int
) -> None:
    server.refuses = error
    async with running(keeper, run_dir, server, [home.spec(["sh", "-c", f"exit {code}"])]):
        await server.until(lambda: any(each.rung == 4 for each in server.incidents))
    told = server.incidents[-1]
    assert told.severity == "critical"
    assert ("looked for what was good", "failed: no room") in [(each.what, each.outcome) for each in told.timeline]


async def test_what_could_not_be_done_is_told_and_the_next_thing_is_tried(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home
) -> None:
    server.fails = VolumeError("the store is away", why="no answer")
    server.good = KnownGood(number=4, at_ms=2**60, newest=6, config={"a.json": "-x"})
    slow = msgspec.structs.replace(home.care, ladder=msgspec.structs.replace(QUICK, settled_ms=60_000))
    async with running(keeper, run_dir, server, [home.spec(["sh", "-c", "exit 78"], slow)]):
        await server.until(lambda: any(each.rung == 4 for each in server.incidents))
    said = [each.outcome for each in server.incidents[-1].timeline if each.took_ms is not None]
    assert [each.startswith("failed: the store is away (no answer)") for each in said][:3] == [True, False, True]


async def test_a_life_that_goes_well_is_known_good(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    server.good = KnownGood(number=5)
    async with running(keeper, run_dir, server, [home.spec(rings(bell))]):
        assert await server.saw("instance.known_good") == {"instance": "ada", "number": 5}
        assert server.incidents == []


async def test_a_life_whose_configuration_was_ruined_meanwhile_is_not_known_good(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    """Nor is one whose own check does not take it, and says so with a secret in it."""
    server.good = KnownGood(number=5)
    picky = f"grep -q unknown {home.config} && echo 'unknown key; token s3cret-s3cret' && exit 1; exit 0"
    file = msgspec.structs.replace(home.care.config[0], validate=["sh", "-c", picky])
    care = msgspec.structs.replace(home.care, config=[file], ladder=msgspec.structs.replace(QUICK, good_again_ms=60))
    rounds = home.tmp / "rounds"
    canary = Probe(kind="command", argv=["/bin/sh", "-c", f"echo >> {rounds}"], every_ms=60_000)
    wanted = msgspec.structs.replace(
        home.spec(rings(bell), care), canary=canary, secrets=["s3cret-s3cret"], log=str(home.tmp / "raw.log")
    )
    async with running(keeper, run_dir, server, [wanted]):
        await server.saw("instance.known_good", 2)
        for broken, why in (
            ("{ broken", "a.json: "),
            ('{"unknown": 1}', "a.json: unknown key; token [redacted:secret]"),
        ):
            home.config.write_text(broken)
            told = await server.saw("config.broken")
            assert str(told["why"]).startswith(why)
            marked, asked = server.asked.count(("mark_good", "ada")), rounds.read_text()
            while len(rounds.read_text()) < len(asked) + 5:
                await asyncio.sleep(0.01)
            assert server.asked.count(("mark_good", "ada")) == marked, "not in five rounds"
            home.config.write_text(GOOD)
            await server.saw("config.mended")
            server.events.clear()
            await server.saw("instance.known_good")
    assert server.incidents == []


@pytest.mark.parametrize(("check", "broken"), [("exit 0", False), ("exit 1", True), (None, True)])
async def test_an_exit_code_that_has_other_causes_is_shown_to_its_own_check(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, check: str | None, broken: bool
) -> None:
    """Of 78 without such a check it is believed that the configuration is wrong."""
    validate = ["sh", "-c", check] if check else []
    file = msgspec.structs.replace(home.care.config[0], validate=validate)
    care = msgspec.structs.replace(home.care, config=[file])
    server.good = KnownGood(number=4, at_ms=2**60, newest=4)
    async with running(keeper, run_dir, server, [home.spec(["sh", "-c", "exit 78"], care)]):
        await server.saw("instance.healed")
    assert server.thought_broken[0] is broken
    assert actions(server)[0] == "recreate", "there is no configuration to go back to"


async def test_a_check_that_cannot_be_started_proves_nothing_and_harms_nobody(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    rounds = home.tmp / "rounds"
    rounds.touch()
    canary = Probe(kind="command", argv=["/bin/sh", "-c", f"echo >> {rounds}"], every_ms=60_000)
    file = msgspec.structs.replace(home.care.config[0], validate=[str(home.home / "nothing")])
    care = msgspec.structs.replace(home.care, config=[file])
    wanted = msgspec.structs.replace(home.spec(rings(bell), care), canary=canary)
    async with running(keeper, run_dir, server, [wanted]) as node:
        pid = int(await bell.next())
        await server.saw("instance.ready")
        home.config.write_text('{"mode": "local", "port": 7, "more": 1}')
        asked = len(rounds.read_text())
        while len(rounds.read_text()) < asked + 5:
            await asyncio.sleep(0.01)
        [status] = node.status()
        assert (status.pid, status.state, node.trouble) == (pid, "ready", "")
        await keeper_has_only(keeper, "ada")


async def keeper_has_only(keeper: KeeperClient, name: str) -> None:
    """Nothing of a command beside it is left."""
    async with asyncio.timeout(5):
        while {each.name for each in await keeper.lives()} != {name}:
            await asyncio.sleep(0.01)


async def test_a_repair_ends_when_anybody_holds_the_home(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, tmp_path: Path
) -> None:
    """A restore, for example: it must not write where the repair does."""
    began, hold = tmp_path / "began", tmp_path / "hold"
    repair = Repair(argv=["sh", "-c", f"echo $$ > {began}.draft; mv {began}.draft {began}; sleep 600"])
    care = msgspec.structs.replace(home.care, repair=repair)
    wanted = msgspec.structs.replace(home.spec(["sh", "-c", "exit 3"], care), hold=str(hold))
    async with running(keeper, run_dir, server, [wanted]) as node:
        while not began.exists():
            await asyncio.sleep(0.01)
        assert {each.name for each in await keeper.lives()} <= {*lives_of(["ada"])}
        hold.write_text("its files go back\nada\n")
        await gone(int(began.read_text()))
        while node.status()[0].state != "stopped":
            await asyncio.sleep(0.01)


async def test_a_death_that_is_over_at_once_is_an_incident_that_disturbs_nobody(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [home.spec(rings(bell))]):
        await server.saw("instance.ready")
        kill(int(await bell.next()))
        incident = await server.over()
    assert (incident.severity, incident.rung, incident.exit) == ("info", 1, "signal 9")
    assert [each.what for each in incident.timeline] == ["it was killed (signal 9)", "ready again", "it is over"]


async def test_an_agent_that_answers_no_message_is_started_again(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell, tmp_path: Path
) -> None:
    flag = tmp_path / "answers"
    flag.touch()
    canary = Probe(kind="command", argv=["/bin/sh", "-c", f"test -e {flag}"], every_ms=10, failures=2)
    wanted = msgspec.structs.replace(home.spec(rings(bell)), canary=canary)
    async with running(keeper, run_dir, server, [wanted]):
        first = await bell.next()
        await server.saw("instance.ready")
        flag.unlink()
        assert await bell.next() != first
        flag.touch()
        assert "answers no message" in (await server.saw("instance.restarting"))["reason"]


async def test_one_in_the_middle_of_a_call_is_not_killed_for_its_silence(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    canary = Probe(kind="command", argv=["/bin/sh", "-c", f"echo >> {asked}; exit 1"], every_ms=10, failures=2)
    server.activity_now = Activity(busy=["ada"], calls=["ada"])
    async with running(keeper, run_dir, server, [msgspec.structs.replace(home.spec(rings(bell)), canary=canary)]):
        pid = int(await bell.next())
        async with asyncio.timeout(20):
            while not asked.exists() or len(asked.read_text()) < 8:
                await asyncio.sleep(0.01)
        assert living(pid)
        server.activity_now = Activity(busy=["ada"])  # a message waits for it: that proves nothing
        assert int(await bell.next()) != pid
        assert "answers no message" in (await server.saw("instance.restarting"))["reason"]


async def test_a_stopped_main_process_is_found_without_a_probe(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [home.spec(rings(bell))]):
        first = int(await bell.next())
        await server.saw("instance.ready")
        os.kill(first, signal.SIGSTOP)
        assert int(await bell.next(timeout=20)) != first
        assert "stopped answering" in (await server.saw("instance.restarting"))["reason"]


async def test_the_next_node_goes_on_with_an_open_incident(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, home: Home, bell: Bell
) -> None:
    patient = msgspec.structs.replace(home.care, ladder=msgspec.structs.replace(QUICK, settled_ms=60_000))
    async with running(keeper, run_dir, server, [home.spec(rings(bell), patient)]) as node:
        kill(int(await bell.next()))
        await server.until(lambda: server.incidents and server.incidents[-1].impact.startswith("did not"))
        await node.detach()
    async with running(keeper, run_dir, server, [home.spec(rings(bell), patient)]):
        await server.saw("instance.adopted")
        kill(int(await bell.next()))
        await server.until(lambda: len(server.incidents[-1].timeline) >= 3)
    assert len({each.id for each in server.incidents}) == 1


async def test_a_full_disk_is_named_as_the_cause(
    keeper: KeeperClient, run_dir: Path, server: Rescuer, tmp_path: Path, bell: Bell
) -> None:
    with mounted(tmp_path / "disk", "tmpfs") as disk:
        home = Home(disk / "ada", server)
        care = msgspec.structs.replace(home.care, config=[])
        async with running(keeper, run_dir, server, [home.spec(rings(bell), care)]):
            pid = int(await bell.next())
            fill(disk)
            kill(pid)
            await server.until(lambda: server.incidents)
            assert server.incidents[0].cause == f"signal 9: the disk of {home.home} is full"
            for _ in range(2):  # the first death is nothing to disturb anybody for
                kill(int(await bell.next()))
            await server.until(lambda: server.incidents[-1].next == f"df -h {home.home}")
            await bell.next()
