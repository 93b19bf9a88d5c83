"""Real programs in real boxes: what they see, what they cannot do, how they are signalled, frozen and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from driver_house import ENV, ending, heard, keeper_of, line, machine

from relit.control.box import Box, Limits
from relit.drivers import tenant
from relit.drivers.base import Exit, Launch, Life
from relit.drivers.boxed import settle
from relit.drivers.machine import LANDLOCK_PORTS, Found
from relit.drivers.process import ProcessDriver
from relit.drivers.sandbox import wrap
from relit.errors import ConfigError, FreezeFailed
from relit.lib import proc
from relit.node.client import KeeperClient
from relit.node.freeze import Freezing

COUNTING = Path(__file__).parents[1] / "node" / "counting.py"
OURS = [path for path in (sys.prefix, sys.base_prefix, str(COUNTING.parent)) if path.startswith("/tmp/")]  # else seen


class House:
    """relit's data folder with two agents; scripts run as the first of them."""

    def __init__(self, data: Path) -> None:
        self.data, self.agent, self.other = data, data / "agents" / "a", data / "agents" / "b"
        for folder in (self.agent, self.other):
            for name in ("home", "tmp"):
                (folder / name).mkdir(parents=True)
        for file in (data / "token", data / "key", data / "relit.db", self.other / "home" / "diary"):
            file.write_text("SECRET\n")
        self.box = Box(home=f"{self.agent}/home", tmp=f"{self.agent}/tmp", hide=[str(data)], read=OURS)
        self.log = self.agent / "log"
        self._keys = 0
        self.keeper: KeeperClient
        self.driver: ProcessDriver

    def launch(self, *argv: str, **fields: object) -> Launch:
        self._keys += 1
        usual = {"env": ENV | {"HOME": self.box.home, "OTHER": str(self.other), "DATA": str(self.data)}}
        given = {"key": f"k{self._keys}", "name": "a", "argv": list(argv), "box": self.box, "log": str(self.log)}
        return Launch(**(usual | given | fields))  # type: ignore[arg-type]

    async def start(self, script: str, **fields: object) -> Life:
        return await self.driver.start(self.launch("sh", "-c", script, **fields))

    async def said(self, script: str, **fields: object) -> str:
        """What a script prints, errors included."""
        self.log.unlink(missing_ok=True)
        life = await self.start(script, **fields)
        await ending(self.driver, life.key)
        return self.log.read_text()

    def pipe(self) -> Path:
        """One that is in the agent's home."""
        path = Path(self.box.home) / "pipe"
        os.mkfifo(path)
        return path


@pytest.fixture(params=["groups", "walk"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path / "data")
    machine()
    async with keeper_of(made.data, groups=request.param == "groups") as keeper:
        made.keeper, made.driver = keeper, ProcessDriver(keeper, machine)
        yield made


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tmps", [("/tmp", "/var/tmp"), ("/var/tmp",)], ids=["data in tmp", "data elsewhere"])
async def test_nothing_of_relit_and_of_other_agents_can_be_read(house: House, tmps: tuple[str, ...]) -> None:
    house.driver = ProcessDriver(house.keeper, lambda: msgspec.structs.replace(machine(), tmps=tmps))
    said = await house.said('cat "$DATA"/* "$OTHER"/home/* "$OTHER"/../b/home/diary; ls -A "$DATA" "$DATA/agents"')
    assert "SECRET" not in said
    assert said.splitlines()[-4:] == ["agents", "", f"{house.data}/agents:", "a"]
    assert "No such file or directory" in said


async def test_home_and_tmp_can_be_written_and_nothing_else(house: House) -> None:
    places = [house.box.home, "/tmp", "/var/tmp", "/dev/shm"]
    closed = ["/", "/etc", "/usr", "/var", "/run", "/sys/fs/cgroup", str(house.data), f"{house.data}/agents/a"]
    tries = "; ".join(f"(: > {place}/probe) && echo wrote {place}" for place in places + closed)
    said = await house.said(tries)
    assert [word[6:] for word in said.splitlines() if word.startswith("wrote ")] == places
    assert (house.agent / "tmp" / "probe").exists()
    assert (house.agent / "home" / "probe").exists()


async def test_tmp_is_private(house: House) -> None:
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).name not in await house.said("ls -a /tmp /var/tmp /dev/shm")


async def test_further_folders_are_shown_as_they_were_asked_for(house: House) -> None:
    for name in ("runtime", "work"):
        (house.data / name).mkdir()
        (house.data / name / "file").write_text(f"{name}\n")
    box = msgspec.structs.replace(house.box, read=[f"{house.data}/runtime"], write=[f"{house.data}/work"])
    said = await house.said('cd "$DATA"; cat runtime/file; echo new > work/file; echo new > runtime/file', box=box)
    assert said.splitlines()[0] == "runtime"
    assert "Read-only" in said
    assert (house.data / "work" / "file").read_text() == "new\n"
    assert (house.data / "runtime" / "file").read_text() == "runtime\n"


async def test_hidden_files_and_folders_below_shown_ones_stay_hidden(house: House) -> None:
    work = house.data / "work"
    (work / "private").mkdir(parents=True)
    for name in ("secret", "private/secret"):
        (work / name).write_text("SECRET\n")
    box = msgspec.structs.replace(house.box, write=[str(work)], hide=[f"{work}/secret", f"{work}/private"])
    said = await house.said(f"cd {work}; cat secret private/secret; rm -rf secret private; ls; ls -A private", box=box)
    assert "SECRET" not in said
    assert said.splitlines()[-2:] == ["private", "secret"]
    assert (work / "private" / "secret").read_text() == (work / "secret").read_text() == "SECRET\n"


async def test_sockets_of_the_machines_services_are_out_of_reach(house: House) -> None:
    assert (await house.said("find /run /var/run/ -type s; ls /run")).split() in ([], ["systemd"])


# --- rights --------------------------------------------------------------------------------------------------------


async def test_every_capability_is_dropped(house: House) -> None:
    said = await house.said("grep -E '^(CapEff|CapPrm|CapInh|CapAmb|NoNewPrivs)' /proc/self/status")
    assert [word.split()[1].lstrip("0") for word in said.splitlines()] == ["", "", "", "", "1"]


async def test_root_in_a_box_cannot_change_the_kernels_settings(house: House) -> None:
    """Their owner may, without any capability: through ``core_pattern`` a program would become root outside."""
    script = (
        "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern && echo changed;"
        "mount -o remount,rw /proc/sys && echo mounted; umount /proc/sys && echo unmounted;"
        'umount "$DATA" && echo unhidden; unshare --map-root-user --mount umount "$DATA" && echo unhidden;'
        "chroot / true && echo chrooted; mknod $HOME/disk b 8 0 && echo made"
    )
    assert {"changed", "mounted", "unmounted", "unhidden", "chrooted", "made"}.isdisjoint(
        (await house.said(script)).splitlines()
    )


async def test_it_sees_and_signals_its_own_processes_only(house: House) -> None:
    script = (
        f"ls /proc | grep -c '^[0-9]'; kill -0 {os.getpid()} || kill -0 {house.keeper.pid} || echo nobody; kill -9 -1"
    )
    said = await house.said(script)
    assert int(said.split()[0]) <= 5
    assert "nobody" in said
    assert proc.start_time(house.keeper.pid) is not None


async def test_limits_hold_inside(house: House) -> None:
    limits = Limits(nofile=77, fsize=512 * 1024)
    said = await house.said("ulimit -n; ulimit -Hn; ulimit -f; ulimit -c; ulimit -Hc", limits=limits)
    assert said.split() == ["77", "77", "1024", "0", "0"]
    assert (await house.said("ulimit -n; ulimit -c", limits=limits, box=None)).split() == ["77", "0"]


# --- network -------------------------------------------------------------------------------------------------------

SERVER = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[2])))
open(sys.argv[1], "w").write(str(server.getsockname()[1]))
server.accept()[0].sendall(b"hello")
"""


async def test_its_server_answers_outside(house: House) -> None:
    pipe = house.pipe()
    await house.driver.start(house.launch(sys.executable, "-c", SERVER, str(pipe), "0"))
    port = int(await line(pipe))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b"hello"
    writer.close()


async def test_without_network_there_is_only_its_own_loopback(house: House) -> None:
    pipe = house.pipe()
    box = msgspec.structs.replace(house.box, network=False)
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        script = f"from socket import *; print(socket().connect_ex(('127.0.0.1', {port})), if_nameindex())"
        launch = house.launch(sys.executable, "-c", script, box=box)
        await house.driver.start(launch)
        await ending(house.driver, launch.key)
        assert house.log.read_text() == "111 [(1, 'lo')]\n"
    await house.driver.start(house.launch(sys.executable, "-c", SERVER, str(pipe), "0", box=box))
    port = int(await line(pipe))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


TRY_PORTS = """
import errno, socket, sys
for port in map(int, sys.argv[1:]):
    for what in ("bind", "connect"):
        with socket.socket() as sock:
            try:
                getattr(sock, what)(("127.0.0.1", port))
                print(what, port, "ok")
            except OSError as error:
                print(what, port, errno.errorcode[error.errno])
"""


async def test_ports_that_are_not_its_own_are_closed_to_it(house: House) -> None:
    if machine().landlock < LANDLOCK_PORTS:
        pytest.skip("the kernel's Landlock knows no ports")
    own, foreign = free_port(), free_port()
    box = msgspec.structs.replace(house.box, ports=[own], connect=[own])
    launch = house.launch(sys.executable, "-c", TRY_PORTS, str(own), str(foreign), box=box)
    await house.driver.start(launch)
    assert await ending(house.driver, launch.key) == Exit(code=0)
    assert house.log.read_text().splitlines() == [
        f"bind {own} ok",
        f"connect {own} ECONNREFUSED",
        f"bind {foreign} EACCES",
        f"connect {foreign} EACCES",
    ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


# --- signals and ends ----------------------------------------------------------------------------------------------


async def test_a_life_is_the_program_and_not_bubblewrap(house: House) -> None:
    pipe = house.pipe()
    life = await house.start(f"echo $$ > {pipe}; exec sleep 1000")
    assert await heard(pipe, life) == life.pid
    async with asyncio.timeout(15):
        while Path(f"/proc/{life.pid}/comm").read_text() != "sleep\n":  # the shell has only just written
            await asyncio.sleep(0.001)
    assert await house.driver.adopt(life.key) == life
    assert await house.driver.lives() == [life]
    os.kill(life.pid, signal.SIGKILL)
    assert await ending(house.driver, life.key) == Exit(signal=9)


async def test_bubblewraps_child_is_found_without_the_kernels_lists(house: House) -> None:
    life = await house.start("exec sleep 1000")
    (main,) = await house.keeper.lives()
    (init,) = tenant.searched_children(main.pid)
    assert tenant.searched_children(init) == [life.pid]


async def test_a_polite_end_runs_its_handlers(house: House) -> None:
    pipe = house.pipe()
    life = await house.start(f"trap 'echo bye; exit 0' TERM; echo up > {pipe}; while :; do sleep 0.01; done")
    assert await line(pipe) == "up"
    assert await house.driver.signal(life.key, signal.SIGTERM)
    assert await ending(house.driver, life.key) == Exit(code=0)
    assert house.log.read_text() == "bye\n"


async def test_a_signal_right_after_the_start_is_not_lost(house: House) -> None:
    for _ in range(10):
        life = await house.start("exec sleep 1000")
        assert await house.driver.signal(life.key, signal.SIGTERM)
        assert await ending(house.driver, life.key) == Exit(signal=15)


async def test_a_whole_group_is_signalled(house: House) -> None:
    pipe = house.pipe()
    child = f"trap 'echo child; exit' TERM; echo up > {pipe}; while :; do sleep 0.01; done"
    life = await house.start(f"trap 'wait; exit 5' TERM; ({child}) & wait; wait")
    await line(pipe)
    assert await house.driver.signal(life.key, signal.SIGTERM, whole=True)
    assert await ending(house.driver, life.key) == Exit(code=5)
    assert "child" in house.log.read_text().splitlines()


async def test_a_pid_comes_again_with_another_start_time(house: House) -> None:
    """A lock that names both is not taken for a living one's."""
    seen = []
    for _ in range(2):
        life = await house.start("echo $$ $(cut -d' ' -f22 /proc/$$/stat)")
        await ending(house.driver, life.key)
        seen.append(house.log.read_text().splitlines()[-1].split())
        await asyncio.sleep(0.02)  # start times are told in ticks of 10 ms
    assert seen[0][0] == seen[1][0] == "2"
    assert seen[0][1] != seen[1][1]


async def test_orphans_are_reaped(house: House) -> None:
    script = "for i in 1 2 3 4 5; do (true & true &) & done; wait; sleep 0.05; grep -l 'State:.Z' /proc/[0-9]*/status"
    assert "/proc/" not in await house.said(script)


async def test_killing_bubblewrap_ends_everything(house: House) -> None:
    pipe = house.pipe()
    life = await house.start(f"(setsid sh -c 'echo $$ > {pipe}; exec sleep 1000' &); exec sleep 1000")
    stray = await heard(pipe, life)
    main = next(each for each in await house.keeper.lives() if each.key == life.key)
    os.kill(main.pid, signal.SIGKILL)
    assert await ending(house.driver, life.key) == Exit(signal=9)
    assert [proc.start_time(pid) for pid in (life.pid, stray)] == [None, None]


async def test_the_next_keeper_takes_a_box_over(house: House) -> None:
    life = await house.start("exec sleep 1000", tag="t")
    os.kill(house.keeper.pid, signal.SIGKILL)
    async with asyncio.timeout(15):
        while (await house.driver.lives())[0].adopted is False:
            await asyncio.sleep(0.01)
    adopted = await house.driver.adopt(life.key)
    assert adopted is not None
    assert (adopted.pid, adopted.start, adopted.tag) == (life.pid, life.start, "t")
    await house.driver.signal(life.key, signal.SIGTERM)
    assert await ending(house.driver, life.key) in (Exit(signal=15), Exit())


async def test_what_cannot_be_boxed_does_not_run(house: House) -> None:
    driver = ProcessDriver(house.keeper, lambda: Found(why="bubblewrap is not installed"))
    with pytest.raises(ConfigError, match="not installed"):
        await driver.start(house.launch("true"))
    assert await driver.lives() == []


# --- standing still ------------------------------------------------------------------------------------------------


async def patiently(freezing: Freezing) -> bool:
    """By signals, on a busy machine, a tree may not stand still in time."""
    for _ in range(4):
        with contextlib.suppress(FreezeFailed):
            return await freezing.freeze()
    return await freezing.freeze()


async def test_a_box_stands_still_to_its_last_thread(house: House) -> None:
    counters = Path(house.box.home) / "counters"
    counters.write_bytes(bytes(8 * 9))
    words = [sys.executable, str(COUNTING), str(counters), "3", "2", "escape"]
    await house.driver.start(house.launch(*words))
    await counts_on(counters)
    freezing = Freezing(house.data / "run", ["a"], 2_000)
    assert await patiently(freezing)
    before = counters.read_bytes()
    await asyncio.sleep(0.05)  # nothing happens in it: that is what is tested
    assert counters.read_bytes() == before
    assert await freezing.thaw()
    await counts_on(counters)


async def counts_on(file: Path) -> None:
    """Wait until every counter has moved."""
    before = struct.unpack("<9Q", file.read_bytes())
    async with asyncio.timeout(15):
        while any(a == b for a, b in zip(before, struct.unpack("<9Q", file.read_bytes()), strict=True)):
            await asyncio.sleep(0.01)


async def test_asking_the_frozen_to_end_lets_it_go(house: House) -> None:
    life = await house.start("exec sleep 1000")
    freezing = Freezing(house.data / "run", ["a"], 10_000)
    assert await patiently(freezing)
    assert await house.driver.signal(life.key, signal.SIGTERM)
    assert await ending(house.driver, life.key) == Exit(signal=15)
    assert not await freezing.thaw()


# --- an unprivileged user ------------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged() -> Iterator[tuple[House, list[str]]]:
    """A house of somebody else's, and the words that make a command theirs."""
    if os.geteuid() != 0:
        pytest.skip("all tests run unprivileged here")
    folder = Path(tempfile.mkdtemp(prefix="relit-"))
    try:
        house = House(folder / "data")
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, 65534, 65534)
        setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        tried = subprocess.run([*setpriv, machine().bwrap, "--ro-bind", "/", "/", "true"], check=False, cwd="/")
        if tried.returncode != 0:
            pytest.skip("unprivileged users may make no user namespaces here")
        yield house, setpriv
    finally:
        shutil.rmtree(folder)


def test_an_unprivileged_user_has_the_same_box(unprivileged: tuple[House, list[str]]) -> None:
    house, setpriv = unprivileged
    found = msgspec.structs.replace(machine(), root=False)
    box = settle(house.box, found)

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = [*setpriv, *wrap(["sh", "-c", script], box, found)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=30)

    secrets = run(f"cat {house.data}/token {house.other}/home/diary; ls /proc | grep -c '^[0-9]'; id -u")
    assert secrets.stdout.split()[1:] == ["65534"]
    assert int(secrets.stdout.split()[0]) <= 5
    assert run(f"echo mine > {box.home}/file && echo mine > /tmp/file && exit 7").returncode == 7
    assert (house.agent / "tmp" / "file").read_text() == "mine\n"
    assert run(f": > {house.agent}/probe").returncode != 0
    assert run("kill -TERM $$").returncode == 143


def test_an_unprivileged_program_is_found_behind_its_bubblewrap(unprivileged: tuple[House, list[str]]) -> None:
    house, setpriv = unprivileged
    found = msgspec.structs.replace(machine(), root=False)
    for pids in (True, False):
        box = settle(msgspec.structs.replace(house.box, pids=pids), found)
        command = [*setpriv, *wrap(["sh", "-c", "echo up; exec sleep 1000"], box, found)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as main:
            assert main.stdout is not None
            assert main.stdout.readline() == "up\n"
            who = tenant.find(main.pid)
            assert who is not None
            assert tenant.send(who, signal.SIGTERM)
            assert main.wait(timeout=30) == 143
            assert tenant.find(main.pid) is None


# --- figures -------------------------------------------------------------------------------------------------------


async def test_a_box_costs_little(house: House) -> None:
    pipe = house.pipe()
    took: dict[str, list[float]] = {"plain": [], "box": [], "box and limits": []}
    for _ in range(15):
        for what, times in took.items():
            box, limits = None if what == "plain" else house.box, Limits() if "limits" in what else None
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                up = group.create_task(line(pipe))
                life = await house.start(f"echo up > {pipe}", box=box, limits=limits)
                assert await up == "up"
            times.append((time.perf_counter() - began) * 1000)
            await ending(house.driver, life.key)
            await house.driver.forget(life.key)
    for what, times in took.items():
        print(f"{what}: first words after p50 {statistics.median(times):.1f} ms, best {min(times):.1f} ms")
    assert statistics.median(took["box and limits"]) < 500  # a shared machine: the figure is printed
