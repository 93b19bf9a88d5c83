"""Wake-ups within a process and between processes of one machine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relit.errors import ConfigError
from relit.store.wakeups import LocalSocketWakeups, Wakeups


@asynccontextmanager
async def neighbours(folder: Path, count: int = 2) -> AsyncIterator[list[LocalSocketWakeups]]:
    made = [LocalSocketWakeups(folder) for _ in range(count)]
    for each in made:
        await each.start()
    yield made
    for each in made:
        await each.stop()


async def test_an_announcement_wakes_its_topic_only() -> None:
    wakeups = Wakeups()
    one, other = wakeups.subscribe("run:1"), wakeups.subscribe("run:2")
    wakeups.announce(["run:1"])
    assert await one.wait(1)
    assert not await other.wait(0)


async def test_an_announcement_while_nobody_waits_is_kept_once() -> None:
    wakeups = Wakeups()
    listener = wakeups.subscribe("ready", "timers")
    wakeups.announce(["ready", "timers"])
    wakeups.announce({"ready"})
    assert await listener.wait(0)
    assert not await listener.wait(0)


async def test_a_star_wakes_everyone() -> None:
    wakeups = Wakeups()
    listeners = [wakeups.subscribe("ready"), wakeups.subscribe("run:1")]
    wakeups.announce(["*"])
    assert [await each.wait(0) for each in listeners] == [True, True]


async def test_a_closed_subscription_hears_nothing() -> None:
    wakeups = Wakeups()
    listener = wakeups.subscribe("ready", "ready")
    listener.close()
    listener.close()
    wakeups.announce(["ready"])
    assert not await listener.wait(0)


async def test_a_writer_thread_wakes_a_waiting_task() -> None:
    wakeups = Wakeups()
    listener = wakeups.subscribe("ready")
    thread = threading.Thread(target=wakeups.announce, args=(["ready"],))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(listener.wait(10))
        thread.start()
    thread.join()
    assert waiting.result()


async def test_no_announcement_is_lost_between_threads() -> None:
    wakeups = Wakeups()
    listener = wakeups.subscribe("ready")
    done = 0

    def announce() -> None:
        nonlocal done
        for _ in range(5000):
            done += 1
            wakeups.announce(["ready"])

    thread = threading.Thread(target=announce)
    thread.start()
    seen = 0
    while seen < 5000:
        assert await listener.wait(10)
        seen = done
    thread.join()


def test_a_subscription_of_a_closed_loop_is_forgotten() -> None:
    wakeups = Wakeups()

    async def subscribe() -> None:
        wakeups.subscribe("ready")

    asyncio.run(subscribe())
    thread = threading.Thread(target=wakeups.announce, args=(["ready"],))
    thread.start()
    thread.join()
    assert wakeups._listeners == {}


def test_announcing_topics_that_nobody_hears_is_cheap() -> None:
    wakeups = Wakeups()
    topics = [f"run:{number}" for number in range(100)]
    best = min(_timed(wakeups, topics) for _ in range(200))
    assert best < 100e-6


def _timed(wakeups: Wakeups, topics: list[str]) -> float:
    begin = time.perf_counter()
    wakeups.announce(topics)
    return time.perf_counter() - begin


async def test_neighbours_hear_each_other(tmp_path: Path) -> None:
    async with neighbours(tmp_path, 3) as (one, two, three):
        heard = [two.subscribe("run:1"), three.subscribe("run:1")]
        one.announce(["run:1", "ready"])
        assert [await each.wait(5) for each in heard] == [True, True]


async def test_a_neighbour_that_starts_in_the_same_clock_tick_is_found(tmp_path: Path) -> None:
    async with neighbours(tmp_path, 1) as (one,):
        for _ in range(20):
            one.announce(["warm"])
            late = LocalSocketWakeups(tmp_path)
            await late.start()
            listener = late.subscribe("ready")
            one.announce(["ready"])
            assert await listener.wait(5)
            await late.stop()


async def test_a_folder_deeper_than_a_socket_path_may_be_works(tmp_path: Path) -> None:
    async with neighbours(tmp_path / ("long" * 25) / ("deep" * 25)) as (one, two):
        listener = two.subscribe("ready")
        one.announce(["ready"])
        assert await listener.wait(5)


async def test_sockets_are_private_and_go_away(tmp_path: Path) -> None:
    async with neighbours(tmp_path):
        modes = [os.stat(tmp_path / name).st_mode & 0o777 for name in os.listdir(tmp_path)]
        assert modes == [0o600, 0o600]
    assert os.listdir(tmp_path) == []


async def test_more_topics_than_fit_wake_everyone(tmp_path: Path) -> None:
    async with neighbours(tmp_path) as (one, two):
        listener = two.subscribe("unrelated")
        one.announce([f"run:{number}" for number in range(501)])
        assert await listener.wait(5)
        one.announce(["x" * 40_000])
        assert await listener.wait(5)


async def test_a_socket_whose_process_died_is_removed(tmp_path: Path) -> None:
    dead = tmp_path / "1-dead.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(dead))
    async with neighbours(tmp_path, 1) as (one,):
        one.announce(["ready"])
        assert not dead.exists()


async def test_a_neighbour_that_cannot_keep_up_hears_of_everything_later(tmp_path: Path) -> None:
    async with neighbours(tmp_path) as (one, two):
        listener = two.subscribe("last")
        for number in range(5000):  # two shares this loop, so it cannot read: its buffer fills
            one.announce([f"run:{number}"])
        one.announce(["last"])
        assert await listener.wait(5)


async def test_a_frozen_neighbour_holds_up_nobody(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        async with neighbours(tmp_path) as (one, two):
            assert await child.stdout.readline() == b"ready\n"
            os.kill(child.pid, signal.SIGSTOP)
            for number in range(2000):
                one.announce([f"run:{number}" + "x" * 1000])
                if number % 5 == 0:
                    await asyncio.sleep(0)
            listener = two.subscribe("run:after")
            one.announce(["run:after"])
            assert await listener.wait(5)
            os.kill(child.pid, signal.SIGCONT)
            assert await child.stdout.readline() == b"woken\n"
    finally:
        child.send_signal(signal.SIGCONT)
        await child.wait()


_CHILD = """
import asyncio, sys
from pathlib import Path
from relit.store.wakeups import LocalSocketWakeups
async def main():
    wakeups = LocalSocketWakeups(Path(sys.argv[1]))
    await wakeups.start()
    listener = wakeups.subscribe("run:after")
    print("ready", flush=True)
    await listener.wait(30)
    print("woken", flush=True)
    await wakeups.stop()
asyncio.run(main())
"""


async def test_stop_is_safe_twice_and_before_start(tmp_path: Path) -> None:
    wakeups = LocalSocketWakeups(tmp_path)
    await wakeups.stop()
    await wakeups.start()
    await wakeups.start()
    await wakeups.stop()
    await wakeups.stop()
    wakeups.announce(["ready"])


async def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="fix: "):
        await LocalSocketWakeups(tmp_path / "file").start()
