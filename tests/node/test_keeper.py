from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from node_house import ENV, Bell, gone, kill, living, memory_kb, open_files, pss_kb, rings

from relit.control.paths import short_path
from relit.drivers.base import Exit, Launch
from relit.errors import Conflict, KeeperUnreachable
from relit.node.client import KeeperClient, ensure_keeper
from relit.node.down import down


def sleeper(key: str, name: str | None = None) -> Launch:
    return Launch(key=key, name=name or key, argv=["sleep", "1000"], env=ENV, tag="t")


class Raw:
    """A client that may misbehave."""

    def __init__(self, run_dir: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        with short_path(run_dir / "keeper.sock") as path:
            self.sock.connect(path)
        self.file = self.sock.makefile("rb")

    def ask(self, line: bytes) -> dict[str, Any]:
        self.sock.sendall(line)
        answer: dict[str, Any] = json.loads(self.file.readline())
        return answer

    def close(self) -> None:
        self.file.close()
        self.sock.close()


async def killed(keeper: KeeperClient) -> None:
    kill(keeper.pid)
    await gone(keeper.pid)


async def test_is_reachable_only_by_its_owner(keeper: KeeperClient, run_dir: Path) -> None:
    assert run_dir.stat().st_mode & 0o777 == 0o700
    for name in ("keeper.sock", "keeper.json", "keeper.lock", "keeper.log"):
        assert (run_dir / name).stat().st_mode & 0o777 == 0o600, name


async def test_a_deep_folder_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 30) / ("er" * 60) / "run"
    keeper = await ensure_keeper(folder)
    await keeper.stop()
    await down(folder)


async def test_there_is_one_keeper_per_folder(run_dir: Path) -> None:
    clients = await asyncio.gather(*(ensure_keeper(run_dir) for _ in range(5)))
    assert len({client.pid for client in clients}) == 1
    for client in clients:
        await client.stop()


async def test_ignores_hangup_and_interrupt(keeper: KeeperClient) -> None:
    for number in (signal.SIGHUP, signal.SIGINT):
        os.kill(keeper.pid, number)
    await keeper.lives()
    assert keeper.started == 1


async def test_is_small_with_a_hundred_children(keeper: KeeperClient) -> None:
    await asyncio.gather(*(keeper.start_life(sleeper(f"k{number}")) for number in range(100)))
    rss, pss = memory_kb(keeper.pid), pss_kb(keeper.pid)
    print(f"keeper with 100 children: RSS {rss / 1024:.1f} MiB, PSS {pss / 1024:.1f} MiB")
    assert rss < 16_000


async def test_leaks_no_descriptors(keeper: KeeperClient, run_dir: Path, tmp_path: Path) -> None:
    async def life(key: str) -> None:
        launch = Launch(key=key, name=key, argv=["true"], env=ENV, log=str(tmp_path / "log"))
        await keeper.start_life(launch)
        await keeper.ended(key)
        await keeper.forget(key)
        Raw(run_dir).close()

    await life("first")
    before = open_files(keeper.pid)
    for number in range(50):
        await life(f"k{number}")
    await keeper.lives()
    assert open_files(keeper.pid) <= before + 1  # the last raw client may not have been seen to leave yet


async def test_what_comes_right_behind_a_start_does_not_touch_the_keeper(keeper: KeeperClient, run_dir: Path) -> None:
    """The child is born in the group that the keeper is in at that moment."""
    fields = {"key": "k", "name": "a", "tag": "", "log": "", "argv": ["sleep", "1000"], "env": ENV, "cwd": "/"}
    raw = Raw(run_dir)
    requests = [{"id": 1, "do": "start", **fields}, {"id": 2, "do": "freeze", "name": "a"}]
    started = raw.ask(b"".join(json.dumps(each).encode() + b"\n" for each in requests))
    frozen = json.loads(raw.file.readline())
    assert frozen["ok"]["standing"] == [started["ok"]["pid"]]
    raw.close()
    await keeper.kill("k")
    assert (await keeper.ended("k")).signal == signal.SIGKILL
    assert keeper.started == 1


async def test_garbage_is_answered_and_hurts_nobody(keeper: KeeperClient, run_dir: Path) -> None:
    life = await keeper.start_life(sleeper("k"))
    for line in (
        b"garbage\n",
        b"[]\n",
        b"null\n",
        b"[" * 200_000 + b"\n",
        b"\xff\xfe\x00\n",
        b'{"id":1}\n',
        b'{"id":1,"do":"fly"}\n',
        b'{"id":1,"do":["start"]}\n',
        b'{"id":1,"do":"start"}\n',
        b'{"id":1,"do":"start","key":"../x","name":"n"}\n',
        b'{"id":1,"do":"start","key":"a","name":"a","tag":"","log":"","argv":[],"env":{},"cwd":"/"}\n',
        b'{"id":1,"do":"start","key":"a","name":"a","tag":"","log":"","argv":["true"],"env":{"A=B":"c"},"cwd":"/"}\n',
        b'{"id":1,"do":"start","key":"a","name":"a","tag":"","log":"","argv":["true"],"env":{"A":1},"cwd":"/"}\n',
        b'{"id":1,"do":"signal","key":"k","number":true}\n',
        b'{"id":1,"do":"signal","key":"k","number":1e9}\n',
        b'{"id":1,"do":"kill","key":{}}\n',
    ):
        raw = Raw(run_dir)
        assert "error" in raw.ask(line), line
        assert raw.ask(b'{"id":2,"do":"list"}\n')["id"] == 2
        raw.close()
    assert [found.key for found in await keeper.lives()] == ["k"]
    assert living(life.pid)
    assert keeper.started == 1


async def test_half_a_line_waits_for_the_other_half(keeper: KeeperClient, run_dir: Path) -> None:
    raw = Raw(run_dir)
    raw.sock.sendall(b'{"id":5,"do"')
    await keeper.lives()
    assert raw.ask(b':"list"}\n')["id"] == 5
    raw.close()


async def test_an_endless_line_is_cut_off(keeper: KeeperClient, run_dir: Path) -> None:
    raw = Raw(run_dir)
    with pytest.raises(ConnectionError):  # noqa: PT012 - the keeper hangs up somewhere inside
        for _ in range(200):
            await asyncio.to_thread(raw.sock.sendall, b"x" * 65536)
    raw.close()
    assert await keeper.lives() == []


async def test_a_client_that_does_not_read_is_dropped(keeper: KeeperClient, run_dir: Path) -> None:
    raw = Raw(run_dir)
    raw.sock.settimeout(0.5)
    with pytest.raises(OSError):  # noqa: PT011, PT012 - it is cut off while it sends
        for _ in range(200_000):
            raw.sock.sendall(b'{"id":1,"do":"list"}\n' * 1000)
    raw.close()
    assert await keeper.lives() == []


async def test_many_clients_are_served_at_once(keeper: KeeperClient, run_dir: Path) -> None:
    raws = [Raw(run_dir) for _ in range(100)]
    assert all("ok" in raw.ask(b'{"id":1,"do":"watch"}\n') for raw in raws)
    await keeper.start_life(Launch(key="k", name="k", argv=["true"], env=ENV))
    for raw in raws:
        assert json.loads(raw.file.readline())["life"]["code"] == 0
        raw.close()


async def test_children_outlive_a_keeper_that_is_killed(keeper: KeeperClient) -> None:
    first = await keeper.start_life(sleeper("k"))
    await killed(keeper)
    [found] = await keeper.lives()
    assert (found.pid, found.start, found.tag, found.adopted) == (first.pid, first.start, "t", True)
    with pytest.raises(Conflict):
        await keeper.start_life(sleeper("other", name="k"))


async def test_a_wait_goes_on_when_the_keeper_is_killed(keeper: KeeperClient) -> None:
    life = await keeper.start_life(sleeper("k"))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        wait = group.create_task(keeper.ended("k"))
        await killed(keeper)
        await keeper.lives()
        kill(life.pid)
    assert wait.result() in (Exit(signal=9), Exit())  # older kernels do not tell strangers


async def test_exit_codes_survive_the_keeper(keeper: KeeperClient) -> None:
    await keeper.start_life(Launch(key="k", name="k", argv=["sh", "-c", "exit 7"], env=ENV))
    assert await keeper.ended("k") == Exit(code=7)
    await killed(keeper)
    assert await keeper.ended("k") == Exit(code=7)


async def test_a_child_that_ends_while_no_keeper_lives_has_an_unknown_end(keeper: KeeperClient, run_dir: Path) -> None:
    life = await keeper.start_life(sleeper("k"))
    old = keeper.pid
    await keeper.stop()
    kill(old)
    await gone(old)
    kill(life.pid)
    await gone(life.pid)
    fresh = await ensure_keeper(run_dir)
    async with asyncio.timeout(10):
        assert await fresh.ended("k") in (Exit(), Exit(signal=9))
    await fresh.stop()


async def test_strays_of_an_adopted_child_are_ended(keeper: KeeperClient, bell: Bell) -> None:
    script = f"(setsid sh -c 'echo $$ > {bell.path}; exec sleep 1000' &); exec sleep 1000"
    life = await keeper.start_life(Launch(key="k", name="k", argv=["sh", "-c", script], env=ENV))
    stray = int(await bell.next())
    await killed(keeper)
    await keeper.lives()
    kill(life.pid)
    await keeper.ended("k")
    await gone(stray)


@pytest.mark.parametrize("damage", ["", "{", '{"boot": 1}', "missing"])
async def test_children_are_found_without_the_state_file(keeper: KeeperClient, run_dir: Path, damage: str) -> None:
    life = await keeper.start_life(sleeper("k", name="web"))
    old = keeper.pid
    await keeper.stop()
    kill(old)
    await gone(old)
    if damage == "missing":
        (run_dir / "keeper.json").unlink()
    else:
        (run_dir / "keeper.json").write_text(damage)
    fresh = await ensure_keeper(run_dir)
    [found] = await fresh.lives()
    assert (found.key, found.name, found.pid, found.tag) == ("k", "web", life.pid, "")
    await fresh.stop()


async def test_a_keeper_killed_at_any_moment_of_starts_starts_each_child_once(
    keeper: KeeperClient, bell: Bell, run_dir: Path
) -> None:
    pids = set()
    for number in range(15):
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            launch = Launch(key=f"k{number}", name=f"n{number}", argv=rings(bell), env=ENV)
            start = group.create_task(keeper.start_life(launch))
            for _ in range(number):  # each round lets the request get a little further
                await asyncio.sleep(0)
            kill(keeper.pid)
        pids.add(start.result().pid)
    heard = {int(await bell.next()) for _ in pids}
    assert heard == pids
    with pytest.raises(TimeoutError):
        await bell.next(timeout=0.2)  # nobody else rings


async def test_termination_ends_children_then_keeper(keeper: KeeperClient, bell: Bell) -> None:
    script = f"trap 'echo term > {bell.path}; exit 0' TERM; echo up > {bell.path}; while :; do sleep 0.1; done"
    await keeper.start_life(Launch(key="k", name="k", argv=["sh", "-c", script], env=ENV))
    assert await bell.next() == "up"
    pid = keeper.pid
    await keeper.stop()
    os.kill(pid, signal.SIGTERM)
    assert await bell.next() == "term"
    await gone(pid)


async def test_will_not_end_while_children_live(keeper: KeeperClient) -> None:
    await keeper.start_life(sleeper("k"))
    with pytest.raises(Conflict):
        await keeper.shutdown()
    await keeper.kill("k")
    await keeper.ended("k")
    pid = keeper.pid
    await keeper.shutdown()
    await gone(pid)
    with pytest.raises(KeeperUnreachable):
        await keeper.lives()


async def test_a_folder_that_cannot_be_used_is_an_error_with_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "keeper.sock").mkdir()  # cannot be replaced
    with pytest.raises(KeeperUnreachable) as caught:
        await ensure_keeper(folder)
    assert "keeper.log" in caught.value.fix
    assert caught.value.why


async def test_a_full_disk_does_not_end_the_children(keeper: KeeperClient, run_dir: Path) -> None:
    (run_dir / "keeper.json.new").mkdir()  # the state cannot be written any more
    life = await keeper.start_life(sleeper("k"))
    await killed(keeper)
    (run_dir / "keeper.json.new").rmdir()
    [found] = await keeper.lives()
    assert found.pid == life.pid


async def test_neither_its_state_nor_its_log_on_a_full_disk_keep_it_from_starting_anything(run_dir: Path) -> None:
    run_dir.mkdir(mode=0o700)
    (run_dir / "keeper.log").symlink_to("/dev/full")
    keeper = await ensure_keeper(run_dir)
    try:
        before = keeper.pid
        resource.prlimit(before, resource.RLIMIT_FSIZE, (0, 0))  # its state cannot be written any more
        life = await keeper.start_life(sleeper("k"))
        assert life.pid > 0
        os.kill(life.pid, 9)
        assert (await keeper.ended(life.key)).signal == 9
        assert keeper.pid == before, "it was not started anew"
    finally:
        await keeper.stop()
