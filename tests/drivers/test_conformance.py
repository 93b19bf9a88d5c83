"""What every driver does. A new driver adds itself to DRIVERS and passes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from driver_house import ENV, ending, heard, keeper_of, machine

from relit.control.box import Box, Limits
from relit.drivers.base import Driver, Exit, Launch, Life
from relit.drivers.process import ProcessDriver
from relit.errors import Conflict, InstanceHeld, StartFailed
from relit.lib import proc

Opened = AbstractAsyncContextManager[Driver]


@asynccontextmanager
async def processes(folder: Path, *, groups: bool = True) -> AsyncIterator[Driver]:
    async with keeper_of(folder, groups=groups) as keeper:
        yield ProcessDriver(keeper)


@asynccontextmanager
async def processes_by_walk(folder: Path) -> AsyncIterator[Driver]:
    async with processes(folder, groups=False) as driver:
        yield driver


class Boxing(ProcessDriver):
    """Every launch in a box that shows the test's folder."""

    folder: Path

    async def start(self, launch: Launch) -> Life:
        return await super().start(self._in_box(launch))

    async def stand_by(self, launch: Launch, *, after: str, unless: Sequence[int] = ()) -> None:
        await super().stand_by(self._in_box(launch), after=after, unless=unless)

    def _in_box(self, launch: Launch) -> Launch:
        box = Box(home=str(self.folder / "home"), tmp=str(self.folder / "tmp"), write=[str(self.folder)])
        return msgspec.structs.replace(launch, box=box, limits=Limits())


@asynccontextmanager
async def sandboxes(folder: Path, *, groups: bool = True) -> AsyncIterator[Driver]:
    machine()
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    async with keeper_of(folder, groups=groups) as keeper:
        driver = Boxing(keeper, machine)
        driver.folder = folder
        yield driver


@asynccontextmanager
async def sandboxes_by_walk(folder: Path) -> AsyncIterator[Driver]:
    async with sandboxes(folder, groups=False) as driver:
        yield driver


DRIVERS: dict[str, Callable[[Path], Opened]] = {
    "process": processes,
    "process-without-cgroups": processes_by_walk,
    "sandbox": sandboxes,
    "sandbox-without-cgroups": sandboxes_by_walk,
}


@pytest.fixture(params=list(DRIVERS))
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Driver]:
    async with DRIVERS[request.param](tmp_path) as opened:
        yield opened


def sh(script: str, key: str = "k1", name: str = "one", log: Path | None = None, tag: str = "") -> Launch:
    return Launch(key=key, name=name, argv=["sh", "-c", script], env=ENV, log=str(log or ""), tag=tag)


async def test_tells_the_exit_code(driver: Driver) -> None:
    await driver.start(sh("exit 7"))
    assert await ending(driver, "k1") == Exit(code=7)


async def test_tells_the_signal(driver: Driver) -> None:
    await driver.start(sh("kill -9 $$"))
    assert await ending(driver, "k1") == Exit(signal=9)


async def test_an_ended_life_is_remembered_until_forgotten(driver: Driver) -> None:
    await driver.start(sh("exit 3", tag="t"))
    await ending(driver, "k1")
    found = await driver.adopt("k1")
    assert found is not None
    assert (found.tag, found.exit) == ("t", Exit(code=3))
    await driver.forget("k1")
    assert await driver.lives() == []
    await driver.forget("k1")


async def test_a_living_life_cannot_be_forgotten(driver: Driver) -> None:
    await driver.start(sh("exec sleep 1000"))
    with pytest.raises(Conflict):
        await driver.forget("k1")


async def test_an_unknown_life_has_an_unknown_end(driver: Driver) -> None:
    assert await ending(driver, "nobody") == Exit()
    assert await driver.adopt("nobody") is None
    assert not await driver.signal("nobody", signal.SIGTERM)
    await driver.kill("nobody")


async def test_the_same_start_twice_starts_once(driver: Driver) -> None:
    first = await driver.start(sh("exec sleep 1000"))
    assert await driver.start(sh("exec sleep 1000")) == first
    assert len(await driver.lives()) == 1


async def test_a_name_lives_once(driver: Driver) -> None:
    await driver.start(sh("exec sleep 1000"))
    with pytest.raises(Conflict, match="one already runs"):
        await driver.start(sh("exec sleep 1000", key="k2"))


async def test_the_name_is_free_after_the_end(driver: Driver) -> None:
    await driver.start(sh("exit 0"))
    await ending(driver, "k1")
    await driver.start(sh("exit 5", key="k2"))
    assert await ending(driver, "k2") == Exit(code=5)


async def test_what_cannot_start_says_why_and_leaves_nothing(driver: Driver, tmp_path: Path) -> None:
    for launch in (
        Launch(key="a", name="a", argv=["no-such-program"], env=ENV),
        Launch(key="b", name="b", argv=["true"], env=ENV, cwd=str(tmp_path / "missing")),
        Launch(key="c", name="c", argv=["true"], env=ENV, log=str(tmp_path / "missing" / "log")),
        Launch(key="d", name="d", argv=["/bin/sh\0"], env=ENV),
    ):
        with pytest.raises(StartFailed):
            await driver.start(launch)
    assert await driver.lives() == []


async def test_output_is_appended_to_a_private_log(driver: Driver, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    await driver.start(sh("echo out; echo err >&2", log=log))
    await ending(driver, "k1")
    assert log.read_text() == "before\nout\nerr\n"
    log.unlink()
    await driver.start(sh("echo again", key="k2", log=log))
    await ending(driver, "k2")
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_log_that_is_a_link_is_refused(driver: Driver, tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartFailed):
        await driver.start(sh("echo out", log=tmp_path / "log"))
    assert not (tmp_path / "elsewhere").exists()


async def test_environment_folder_and_descriptors_are_what_was_asked_for(driver: Driver, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = 'echo "$FOO $PWD"; ls /proc/$$/fd; env | grep -c .'
    await driver.start(
        Launch(
            key="k", name="n", argv=["bash", "-c", script], env=ENV | {"FOO": "bar"}, cwd=str(tmp_path), log=str(log)
        )
    )
    await ending(driver, "k")
    first, *files, count = log.read_text().splitlines()
    assert first == f"bar {tmp_path}"
    assert files in (["0", "1", "2"], ["0", "1", "2", "255"])  # the last is the shell's own
    assert int(count) <= len(ENV) + 6


async def test_signals_are_not_ignored_by_inheritance(driver: Driver) -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        await driver.start(Launch(key=f"k{number}", name="n", argv=["sleep", "1000"], env=ENV))
        assert await driver.signal(f"k{number}", number)
        assert await ending(driver, f"k{number}") == Exit(signal=number)
        assert not await driver.signal(f"k{number}", number)


async def pid_is_gone(pid: int) -> bool:
    async with asyncio.timeout(15):
        while proc.start_time(pid) is not None:
            await asyncio.sleep(0.001)  # its parent has it now: there is nothing else to wait on
    return True


ESCAPES = {
    "a child": "sleep 1000 & echo $! > {pipe}; wait",
    "a child with its own session": "setsid sh -c 'echo $$ > {pipe}; exec sleep 1000' & wait",
    "an orphan with its own session": "(setsid sh -c 'echo $$ > {pipe}; exec sleep 1000' &); exec sleep 1000",
    "a grandchild of an orphan": "(setsid sh -c 'sleep 1000 & echo $! > {pipe}; wait' &); exec sleep 1000",
}


@pytest.mark.parametrize("how", list(ESCAPES))
async def test_kill_takes_the_whole_tree(driver: Driver, tmp_path: Path, how: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    life = await driver.start(sh(ESCAPES[how].format(pipe=tmp_path / "pipe")))
    stray = await heard(tmp_path / "pipe", life)
    await driver.kill("k1")
    assert await ending(driver, "k1") == Exit(signal=9)
    assert await pid_is_gone(stray)


@pytest.mark.parametrize("how", list(ESCAPES))
async def test_what_a_dead_main_process_leaves_behind_is_ended(driver: Driver, tmp_path: Path, how: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    life = await driver.start(sh(ESCAPES[how].format(pipe=tmp_path / "pipe")))
    stray = await heard(tmp_path / "pipe", life)
    os.kill(life.pid, signal.SIGKILL)
    assert await ending(driver, "k1") == Exit(signal=9)
    assert await pid_is_gone(stray)


async def test_a_neighbour_survives_a_kill(driver: Driver) -> None:
    await driver.start(sh("sleep 1000 & wait"))
    other = await driver.start(sh("exec sleep 1000", key="k2", name="two"))
    await driver.kill("k1")
    await ending(driver, "k1")
    assert proc.start_time(other.pid) == other.start


async def test_a_tree_that_forks_all_the_time_is_killed(driver: Driver) -> None:
    await driver.start(sh("f() { while :; do (sleep 0.01 &); done; }; f & f & wait"))
    await driver.kill("k1")
    assert await ending(driver, "k1") == Exit(signal=9)


async def test_many_wait_for_one_end(driver: Driver) -> None:
    await driver.start(sh("exec sleep 1000"))
    async with asyncio.timeout(15), asyncio.TaskGroup() as group:
        waits = [group.create_task(driver.wait("k1")) for _ in range(20)]
        await driver.kill("k1")
    assert {wait.result() for wait in waits} == {Exit(signal=9)}


# --- what follows a life -------------------------------------------------------------------------------------------


async def spare(driver: Driver, script: str = "exec sleep 1000", *, unless: Sequence[int] = ()) -> None:
    """``k2`` stands ready to follow ``k1``."""
    await driver.stand_by(sh(script, key="k2"), after="k1", unless=unless)


async def keys(driver: Driver) -> dict[str, bool]:
    """Every life that is known, and whether it goes on."""
    return {life.key: life.exit is None for life in await driver.lives()}


async def test_what_stands_ready_is_no_life_yet(driver: Driver) -> None:
    await driver.start(sh("exec sleep 1000"))
    await spare(driver)
    assert await keys(driver) == {"k1": True}
    assert await driver.adopt("k2") is None


async def test_it_is_started_when_the_other_dies(driver: Driver, tmp_path: Path) -> None:
    life = await driver.start(sh("exec sleep 1000"))
    await spare(driver, f"echo second > {tmp_path}/said; exec sleep 1000")
    await asyncio.sleep(0.1)
    assert not (tmp_path / "said").exists()
    os.kill(life.pid, signal.SIGKILL)
    assert await ending(driver, "k1") == Exit(signal=9)
    assert await keys(driver) == {"k1": False, "k2": True}
    second = await driver.start(sh("exec sleep 1000", key="k2"))
    assert second.pid != life.pid
    assert second.exit is None
    assert await until_exists(tmp_path / "said")
    await driver.kill("k2")
    assert await ending(driver, "k2") == Exit(signal=9)


async def until_exists(path: Path) -> bool:
    async with asyncio.timeout(15):
        while not path.exists():
            await asyncio.sleep(0.005)
    return True


async def test_it_outlives_itself_only_once(driver: Driver) -> None:
    first = await driver.start(sh("exec sleep 1000"))
    await spare(driver)
    os.kill(first.pid, signal.SIGKILL)
    await ending(driver, "k1")
    second = await driver.start(sh("exec sleep 1000", key="k2"))
    os.kill(second.pid, signal.SIGKILL)
    assert await ending(driver, "k2") == Exit(signal=9)
    assert await keys(driver) == {"k1": False, "k2": False}


async def test_it_is_not_started_after_an_exit_code_that_it_must_not_follow(driver: Driver, tmp_path: Path) -> None:
    await driver.start(sh(f"while ! test -e {tmp_path}/go; do sleep 0.01; done; exit 78"))
    await spare(driver, unless=[78])
    (tmp_path / "go").touch()
    assert await ending(driver, "k1") == Exit(code=78)
    assert await keys(driver) == {"k1": False}
    await driver.start(sh("exec sleep 1000", key="k2"))
    assert await keys(driver) == {"k1": False, "k2": True}


@pytest.mark.parametrize("how", ["kill", "signal"])
async def test_it_is_not_started_by_itself_when_the_driver_ended_the_other(driver: Driver, how: str) -> None:
    await driver.start(sh("exec sleep 1000"))
    await spare(driver)
    await (driver.kill("k1") if how == "kill" else driver.signal("k1", signal.SIGTERM))
    assert (await ending(driver, "k1")).kind == "signal"
    assert await keys(driver) == {"k1": False}
    await driver.start(sh("exec sleep 1000", key="k2"))
    assert await keys(driver) == {"k1": False, "k2": True}


@pytest.mark.parametrize("how", ["kill", "another start", "another spare"])
async def test_it_is_dropped(driver: Driver, tmp_path: Path, how: str) -> None:
    life = await driver.start(sh("exec sleep 1000"))
    await spare(driver, f"touch {tmp_path}/began; exec sleep 1000")
    match how:
        case "kill":
            await driver.kill("k2")
        case "another spare":
            await driver.stand_by(sh("exec sleep 1000", key="k3"), after="k1")
        case _:
            await driver.kill("k1")
            await ending(driver, "k1")
            await driver.start(sh("exec sleep 1000", key="k3"))
    if how != "another start":
        os.kill(life.pid, signal.SIGKILL)
        await ending(driver, "k1")
    assert "k2" not in await keys(driver)
    assert await ending(driver, "k2") == Exit()
    assert not (tmp_path / "began").exists()


async def test_a_life_that_ended_has_no_follower_any_more(driver: Driver) -> None:
    await driver.start(sh("exit 0"))
    await ending(driver, "k1")
    await spare(driver)
    assert await keys(driver) == {"k1": False}


async def test_a_held_one_waits_for_its_start(driver: Driver, tmp_path: Path) -> None:
    life = await driver.start(sh("exec sleep 1000"))
    launch = msgspec.structs.replace(sh("exec sleep 1000", key="k2"), hold=str(tmp_path / "hold"))
    await driver.stand_by(launch, after="k1")
    (tmp_path / "hold").touch()
    os.kill(life.pid, signal.SIGKILL)
    await ending(driver, "k1")
    assert await keys(driver) == {"k1": False}
    with pytest.raises(InstanceHeld):
        await driver.start(launch)
    (tmp_path / "hold").unlink()
    await driver.start(launch)
    assert await keys(driver) == {"k1": False, "k2": True}


# --- parked ---------------------------------------------------------------------------------------------------------

COUNTS = "i=0; while :; do i=$((i+1)); echo $i > {count}; sleep 0.02; done & wait"


async def test_who_is_parked_stands_still_with_all_its_children_until_it_is_woken(
    driver: Driver, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    life = await driver.start(sh(COUNTS.format(count=count)))
    await until_exists(count)
    assert len(await driver.park(life.key)) >= 2
    assert await driver.park(life.key), "twice is fine"
    was = count.read_text()
    await asyncio.sleep(0.2)
    assert count.read_text() == was
    now = await driver.adopt(life.key)
    assert now is not None
    assert now.frozen_ms is not None
    await driver.wake(life.key)
    await driver.wake(life.key)
    async with asyncio.timeout(10):
        while count.read_text() in ("", was):
            await asyncio.sleep(0.01)


async def test_who_is_parked_can_be_killed_and_another_one_starts(driver: Driver) -> None:
    life = await driver.start(sh("sleep 600"))
    assert await driver.park(life.key)
    await driver.kill(life.key)
    assert (await driver.wait(life.key)).signal == signal.SIGKILL
    again = await driver.start(sh("sleep 600", key="again"))
    assert again.exit is None
    await driver.kill(again.key)


async def test_nobody_can_be_parked_who_has_ended(driver: Driver) -> None:
    life = await driver.start(sh("true"))
    await driver.wait(life.key)
    assert not await driver.park(life.key)
    assert not await driver.park("never was")
    await driver.wake("never was")
