from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from pathlib import Path
from random import Random

import msgspec
import pytest
from node_house import ENV, Bell, Server, gone, kill, living, memory_kb, rings, running, sh, spec

from relit.control.local import LocalControl
from relit.control.unix import UnixControl, UnixControlServer
from relit.control.values import Backoff, InstanceSpec, Probe
from relit.drivers.base import Exit, Launch, Life
from relit.drivers.process import ProcessDriver
from relit.errors import Conflict
from relit.lib import proc
from relit.lib.ids import system_random
from relit.node import storm
from relit.node.client import KeeperClient
from relit.node.node import Node

# --- rung 1 ---------------------------------------------------------------------------------------------------------


async def test_a_killed_child_is_back_within_milliseconds(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    always = Backoff(stable_ms=0)
    async with running(keeper, run_dir, server, [spec("web", rings(bell), backoff=always)]):
        pid, took = int(await bell.next()), []
        for _ in range(50):
            started = time.perf_counter()
            kill(pid)
            pid = int(await bell.next())
            took.append((time.perf_counter() - started) * 1000)
    median = statistics.median(took)
    print(f"kill -9 → first instruction: median {median:.1f} ms, p95 {sorted(took)[47]:.1f} ms")
    assert median < 200  # a shared machine: the figure is printed, the bound only catches polling


async def test_a_hundred_children_killed_at_once_are_all_back(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [spec(f"n{number}", rings(bell)) for number in range(100)]):
        pids = [int(await bell.next()) for _ in range(100)]
        started = time.perf_counter()
        for pid in pids:
            kill(pid)
        fresh = {int(await bell.next()) for _ in pids}
        print(f"100 killed → last back: {time.perf_counter() - started:.2f} s; keeper {memory_kb(keeper.pid)} kB")
        assert len(fresh - set(pids)) == 100


async def test_a_fault_in_the_nodes_own_code_leaves_nothing_unwatched(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    class Faulty(ProcessDriver):
        faults = 1

        async def wait(self, key: str) -> Exit:
            if self.faults:
                self.faults -= 1
                raise ZeroDivisionError("a fault")
            return await super().wait(key)

    node = Node(LocalControl(server), Faulty(keeper), [spec("web", rings(bell))], run_dir=run_dir, chance=Random(1))
    await node.start()
    pid = int(await bell.next())
    assert (await server.saw("instance.adopted"))["pid"] == pid
    assert "a fault" in node.trouble
    kill(pid)
    assert int(await bell.next()) != pid
    await node.stop()


async def test_a_fault_that_comes_again_and_again_is_told_and_slows_down(
    keeper: KeeperClient, run_dir: Path, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Faulty(ProcessDriver):
        faults = 0

        async def start(self, launch: Launch) -> Life:
            self.faults += 1
            raise ZeroDivisionError("a fault")

    monkeypatch.setattr(storm, "FAULT_S", 0.01)
    driver, wanted = Faulty(keeper), spec("web", ["true"], record=str(tmp_path / "incidents"))
    node = Node(LocalControl(server), driver, [wanted], run_dir=run_dir, chance=Random(1))
    await node.start()
    await server.until(lambda: len([each for each in server.incidents if each.severity == "critical"]) > 2)
    assert "ZeroDivisionError" in server.incidents[-1].cause
    assert len({each.id for each in server.incidents}) == 1, "one trouble, however often it is told"
    await node.stop()
    assert driver.faults < 10, "it does not spin"


async def test_a_death_is_reported_with_the_process_that_died(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [spec("web", rings(bell))]):
        pid = int(await bell.next())
        who = proc.identify(pid)
        kill(pid)
        await server.until(lambda: server.deaths)
        assert (server.deaths[0].instance, server.deaths[0].process) == ("web", who)
        assert await server.saw("instance.died") == {"instance": "web", "pid": pid, "code": None, "signal": 9}
        assert (await server.saw("instance.restarting"))["delay_ms"] == 0
        assert (await server.saw("instance.started", 2))["pid"] == int(await bell.next())


async def test_a_flapping_child_backs_off(keeper: KeeperClient, run_dir: Path, server: Server) -> None:
    slower = Backoff(first_ms=20, most_ms=300, jitter=0)
    async with running(keeper, run_dir, server, [sh("bad", "exit 1", backoff=slower)]) as node:
        await server.saw("instance.restarting", 7)
        said = server.named("instance.restarting")
        assert [each["delay_ms"] for each in said[:7]] == [0, 20, 40, 80, 160, 300, 300]
        assert [each["flapping"] for each in said[:7]] == [False] * 4 + [True] * 3
        [now] = node.status()
        assert now.restarts >= 6


async def test_a_wait_can_be_cut_short(keeper: KeeperClient, run_dir: Path, server: Server) -> None:
    patient = Backoff(first_ms=600_000, most_ms=600_000)
    async with running(keeper, run_dir, server, [sh("bad", "exit 1", backoff=patient)]) as node:
        await server.saw("instance.restarting", 2)
        assert node.status()[0].retry_at_ms is not None
        node.hurry("bad")
        await server.saw("instance.restarting", 3)


async def test_a_program_that_cannot_start_is_tried_again(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path, bell: Bell
) -> None:
    program = tmp_path / "program"
    async with running(keeper, run_dir, server, [spec("late", [str(program)])]):
        await server.saw("instance.restarting", 3)
        program.with_suffix(".new").write_text(f"#!/bin/sh\necho up > {bell.path}\nexec sleep 1000\n")
        program.with_suffix(".new").chmod(0o700)
        program.with_suffix(".new").rename(program)
        assert await bell.next() == "up"


async def test_a_name_that_the_keeper_refuses_harms_no_other(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [spec("../x", ["true"]), spec("web", rings(bell))]) as node:
        await bell.next()
        await server.saw("instance.restarting", 2, "../x")
        assert {each.name for each in node.status()} == {"../x", "web"}


# --- startup, readiness, liveness -----------------------------------------------------------------------------------


async def test_ready_means_that_the_probe_says_so(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path, bell: Bell
) -> None:
    flag = tmp_path / "flag"
    flag.touch()  # an earlier life's: must not count
    probe = Probe(kind="file", target=str(flag))
    async with running(keeper, run_dir, server, [spec("web", rings(bell), ready=probe)]) as node:
        await bell.next()
        assert not flag.exists()
        assert node.status()[0].state == "starting"
        flag.touch()
        await server.saw("instance.ready")
        assert node.status()[0].state == "ready"


async def test_what_never_becomes_ready_is_started_again(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path, bell: Bell
) -> None:
    probe = Probe(kind="file", target=str(tmp_path / "never"))
    async with running(keeper, run_dir, server, [spec("web", rings(bell), ready=probe, startup_ms=50)]):
        first, second = await bell.next(), await bell.next()
        assert first != second
        assert "ready" in (await server.saw("instance.restarting"))["reason"]


async def test_what_stops_answering_is_killed_and_started_again(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path, bell: Bell
) -> None:
    flag = tmp_path / "alive"
    flag.touch()
    live = Probe(kind="file", target=str(flag), every_ms=10, failures=3)
    async with running(keeper, run_dir, server, [spec("web", rings(bell), live=[live])]):
        first = int(await bell.next())
        flag.unlink()
        await gone(first)
        await bell.next()
        assert "stopped answering" in (await server.saw("instance.restarting"))["reason"]


async def test_not_ready_is_shown_and_never_kills(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path, bell: Bell
) -> None:
    flag = tmp_path / "ready"
    ready = Probe(kind="file", target=str(flag), every_ms=5, failures=2)
    async with running(keeper, run_dir, server, [spec("web", rings(bell), ready=ready)]) as node:
        pid = int(await bell.next())
        for times in (1, 2):
            flag.touch()
            await server.saw("instance.ready", times)
            flag.unlink()
            async with asyncio.timeout(10):
                while node.status()[0].state != "draining":
                    await asyncio.sleep(0.005)  # not ready makes no event; the state is all there is to see
        assert living(pid)


# --- stop -----------------------------------------------------------------------------------------------------------


async def test_stops_from_the_highest_order_to_the_lowest(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    def polite(name: str, order: int) -> InstanceSpec:
        loop = f"trap 'echo {name} > {bell.path}; exit' TERM; echo up > {bell.path}; while :; do sleep 0.02; done"
        return sh(name, loop, order=order)

    specs = [polite("server", 0), polite("worker", 1), polite("last", 2)]
    async with running(keeper, run_dir, server, specs):
        for _ in specs:
            assert await bell.next() == "up"
    assert [await bell.next() for _ in specs] == ["last", "worker", "server"]
    assert len(server.named("instance.stopped")) == 3
    assert await keeper.lives() == []


async def test_who_does_not_obey_is_killed_after_its_grace(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    stubborn = sh("web", f"trap '' TERM; echo $$ > {bell.path}; while :; do sleep 0.02; done", grace_ms=100)
    async with running(keeper, run_dir, server, [stubborn]):
        pid = int(await bell.next())
    assert not living(pid)
    assert server.named("instance.died")[-1]["signal"] == 9


async def test_a_stopped_process_obeys_too(keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell) -> None:
    async with running(keeper, run_dir, server, [spec("web", rings(bell))]):
        os.kill(int(await bell.next()), signal.SIGSTOP)
    assert server.named("instance.died")[-1]["signal"] == signal.SIGTERM


async def test_stop_is_safe_twice_and_before_start(keeper: KeeperClient, run_dir: Path, server: Server) -> None:
    node = Node(LocalControl(server), ProcessDriver(keeper), [], run_dir=run_dir, chance=system_random())
    await node.stop()
    await node.start()
    await node.stop()
    await node.stop()
    await node.wait()


# --- adoption -------------------------------------------------------------------------------------------------------


async def test_one_node_per_folder(keeper: KeeperClient, run_dir: Path, server: Server) -> None:
    async with running(keeper, run_dir, server, []):
        with pytest.raises(Conflict, match="a node already"):
            async with running(keeper, run_dir, server, []):
                pass


async def test_the_next_node_takes_over_what_runs(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    specs = [spec("web", rings(bell))]
    async with running(keeper, run_dir, server, specs, leave=True):
        pid = int(await bell.next())
    assert living(pid)
    async with running(keeper, run_dir, server, specs) as node:
        assert (await server.saw("instance.adopted"))["pid"] == pid
        assert node.status()[0].pid == pid
        kill(pid)
        assert int(await bell.next()) != pid


async def test_the_next_node_learns_how_it_ended_meanwhile(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, tmp_path: Path
) -> None:
    specs = [sh("web", f"echo $$ > {bell.path}; read line < {tmp_path}/go; exit 7")]
    os.mkfifo(tmp_path / "go")
    async with running(keeper, run_dir, server, specs, leave=True):
        pid = int(await bell.next())
    await asyncio.to_thread((tmp_path / "go").write_text, "go\n")
    await gone(pid)
    async with running(keeper, run_dir, server, specs):
        assert (await server.saw("instance.died"))["code"] == 7
        await bell.next()
        await server.until(lambda: [death.process.pid for death in server.deaths] == [pid])


async def test_a_changed_spec_restarts_the_instance(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [spec("web", rings(bell))], leave=True):
        first = int(await bell.next())
    changed = [spec("web", rings(bell), env=ENV | {"NEW": "1"})]
    async with running(keeper, run_dir, server, changed) as node:
        second = int(await bell.next())
        assert not living(first)
        await node.apply([spec("web", rings(bell), env=ENV | {"NEW": "2"})])
        await bell.next()
        assert not living(second)


async def test_what_nobody_wants_any_more_is_stopped(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [spec("old", rings(bell))], leave=True):
        pid = int(await bell.next())
    async with running(keeper, run_dir, server, []):
        await gone(pid)
        await server.saw("instance.stopped")
    assert await keeper.lives() == []


async def test_what_is_unwanted_while_it_is_taken_over_is_stopped(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    class Late(ProcessDriver):
        async def wake(self, key: str) -> None:
            await node.take([])
            await asyncio.sleep(0)  # whoever is to leave is asked to

    specs = [spec("web", rings(bell))]
    async with running(keeper, run_dir, server, specs, leave=True):
        pid = int(await bell.next())
    node = Node(LocalControl(server), Late(keeper), specs, run_dir=run_dir, chance=Random(1))
    await node.start()
    await server.saw("instance.stopped")
    assert server.named("instance.adopted") == [{"instance": "web", "pid": pid}]
    assert not living(pid)
    assert await keeper.lives() == []
    await node.stop()


async def test_one_that_takes_its_time_to_end_keeps_nobody_waiting(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    busy = sh("busy", f"trap '' TERM; echo $$ > {bell.path}; while :; do sleep 0.1; done", grace_ms=60_000)
    changed = msgspec.structs.replace(busy, env={**busy.env, "NEW": "1"})
    async with running(keeper, run_dir, server, [busy]) as node:
        pid = int(await bell.next())
        async with asyncio.timeout(10):
            await node.take([changed, sh("other", "sleep 1000")])
            while not any(each.name == "other" and each.state == "ready" for each in node.status()):
                await asyncio.sleep(0.01)
            await node.take([sh("third", "sleep 1000")])  # it is wanted no more, and neither is its successor
            while {each.name for each in node.status()} != {"busy", "third"}:
                await asyncio.sleep(0.01)
        assert living(pid)
        kill(pid)
        async with asyncio.timeout(10):
            await node.apply([sh("third", "sleep 1000")])
        assert [each.name for each in node.status()] == ["third"]


async def test_flapping_is_remembered_across_nodes(keeper: KeeperClient, run_dir: Path, server: Server) -> None:
    patient = [sh("bad", "exit 1", backoff=Backoff(first_ms=600_000, most_ms=600_000))]
    async with running(keeper, run_dir, server, patient, leave=True):
        await server.saw("instance.restarting", 2)
    async with running(keeper, run_dir, server, patient, leave=True) as node:
        assert node.status()[0].restarts > 0, "those of before are none of this start"
        await server.saw("instance.restarting", 3)
        assert node.status()[0].restarts == 2, "a death that both saw counts once"
    assert len(server.named("instance.died")) == 2
    assert server.named("instance.restarting")[-1]["delay_ms"] > 0


async def test_a_killed_keeper_costs_no_child(keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell) -> None:
    async with running(keeper, run_dir, server, [spec("web", rings(bell))]) as node:
        pid, old = int(await bell.next()), keeper.pid
        await server.saw("instance.ready")
        kill(old)
        await gone(old)
        assert [life.pid for life in await keeper.lives()] == [pid]
        assert node.status()[0].pid == pid
        kill(pid)
        assert int(await bell.next()) != pid
        assert server.named("instance.died")[-1]["pid"] == pid


# --- the server's wishes and absence --------------------------------------------------------------------------------


async def test_the_servers_wishes_are_started_changed_and_stopped(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, []) as node:
        await server.want([spec("w1", rings(bell)), spec("w2", rings(bell))])
        pids = {int(await bell.next()), int(await bell.next())}
        await server.want([spec("w1", rings(bell))])
        await server.saw("instance.stopped", instance="w2")
        assert [each.pid in pids for each in node.status() if each.state != "stopped"] == [True]


async def test_wishes_are_kept_while_the_server_is_away(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [], leave=True):
        await server.want([spec("w1", rings(bell))])
        pid = int(await bell.next())
    away = LocalControl(server)
    node = Node(away, ProcessDriver(keeper), [], run_dir=run_dir, chance=system_random())
    await node.start()
    await away.stop()
    kill(pid)
    assert int(await bell.next()) != pid
    await node.stop()


async def test_without_a_server_the_node_heals_and_reports_later(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    listening = UnixControlServer(run_dir / "control.sock", server)
    await listening.start()
    line = UnixControl(run_dir / "control.sock")
    node = Node(line, ProcessDriver(keeper), [spec("web", rings(bell))], run_dir=run_dir, chance=system_random())
    await node.start()
    pid = int(await bell.next())
    await server.saw("instance.ready")
    await listening.stop()
    for _ in range(5):
        kill(pid)
        pid = int(await bell.next())
    assert len(server.deaths) == 0
    await listening.start()
    await server.saw("instance.died", 5)
    assert len(server.deaths) == 5
    await server.until(lambda: len(server.nodes) == 2)
    await node.stop()
    await listening.stop()


async def test_nothing_the_server_refuses_blocks_what_comes_behind(
    keeper: KeeperClient, run_dir: Path, bell: Bell
) -> None:
    class Picky(Server):
        async def worker_died(self, death: object) -> None:
            raise Conflict("never")

    server = Picky()
    async with running(keeper, run_dir, server, [spec("web", rings(bell))]) as node:
        kill(int(await bell.next()))
        await server.saw("instance.died")
        assert node.info().dropped == 1


async def test_a_node_that_lives_says_so_again_and_again(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    there = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = there.sockets[0].getsockname()[1]
    ping = Probe(kind="http", target=f"http://127.0.0.1:{port}/alive", every_ms=10)
    node = Node(LocalControl(server), ProcessDriver(keeper), [], run_dir=run_dir, chance=Random(1), ping=ping)
    await node.start()
    async with asyncio.timeout(20):
        assert b"GET /alive" in await asked.get()
        assert b"GET /alive" in await asked.get()
    await node.stop()
    there.close()
    await there.wait_closed()
