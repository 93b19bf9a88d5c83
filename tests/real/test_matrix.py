"""What befalls agents at night, on both real ones. Each ends well without a hand, or says what a person must do.

make test-real            all of it; one agent of each kind is started for each test
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from real_house import WAIT_S, RealHouse, about, below, broken_version, fill, running

from relit.agents.recipes import kind_table
from relit.control.care import Entry
from relit.gateway.matching import Mask, masks
from relit.testing.llm import Answer, Rule, ToolCall

pytestmark = [pytest.mark.real, pytest.mark.timeout(1500)]
CONFIG = {"openclaw": "state/openclaw.json", "hermes": "home/config.yaml"}
DATABASE = {"openclaw": "state/state/openclaw.sqlite", "hermes": "home/state.db"}
SHELL = {"openclaw": "exec", "hermes": "terminal"}
WORK = {"openclaw": "workspace", "hermes": "work"}
UPGRADE = ("agent", "upgrade", "one", "9999.9.9", "--yes")
both = pytest.mark.parametrize("house", CONFIG, indirect=True)


def did(entries: list[Entry]) -> list[str]:
    """What relit did by itself."""
    return [each.what.partition(":")[0] for each in entries if each.took_ms is not None]


def dated(body: Any, hidden: list[Mask]) -> list[str]:
    """Lines of a request that say which day it is, though what varies is masked: after midnight they are others."""
    if isinstance(body, str):
        for mask in hidden:
            body = mask.pattern.sub(mask.word, body)
        days = [datetime.now(UTC) - timedelta(days=each) for each in (0, 1)]
        told = {day.strftime(form) for day in days for form in ("%Y-%m-%d", "%B %d, %Y")}
        return [line for line in body.splitlines() if any(day in line for day in told)]
    below = body.values() if isinstance(body, dict) else body if isinstance(body, list) else []
    return [line for each in below for line in dated(each, hidden)]


async def answers(house: RealHouse) -> None:
    house.llm.rules[:] = [Rule(about("still there"), "I am.")]
    assert await house.answer(await house.send("one", "Are you still there?")) == "I am."


# --- killed ---------------------------------------------------------------------------------------------------------


@both
async def test_killed_while_idle(house: RealHouse) -> None:
    pid = await house.ready("one")
    house.kill(pid)
    await house.ready("one", not_pid=pid)
    await answers(house)


@both
async def test_killed_in_the_first_model_call(house: RealHouse) -> None:
    house.llm.rules[:] = [Rule(about("river"), "The Seine.")]
    pid = await house.ready("one")
    with house.llm.hold(about("river")) as hold:
        run = await house.send("one", "Which river?")
        await hold.caught(timeout=120)
        house.kill(pid)
        await house.ready("one", not_pid=pid)
    assert await house.answer(run) == "The Seine."


@both
async def test_killed_in_a_tool(house: RealHouse) -> None:
    """The tool's process must be gone with its agent, and the message is answered all the same."""
    marker = house.home("one") / "began"
    command = f"echo $$ > {marker}; sleep 600"
    house.llm.rules[:] = [
        Rule(
            about("work", tool=False),
            Answer(calls=(ToolCall(SHELL[house.agents["one"]], {"command": command}),)),
            times=1,
        ),
        Rule(about("work"), "Done."),
    ]
    pid = await house.ready("one")
    run = await house.send("one", "Do the work.")
    await house.until(marker.exists, "the tool")
    tools = below(pid) | await house.until(lambda: running(["sleep", "600"], pid), "the tool's process")
    house.kill(pid)
    await house.ready("one", not_pid=pid)
    assert not [each for each in tools if Path(f"/proc/{each}").exists()]
    assert await house.answer(run) == "Done."


@both
async def test_killed_between_a_tool_and_the_second_call(house: RealHouse) -> None:
    marker = house.home("one") / "ran"
    call = ToolCall(SHELL[house.agents["one"]], {"command": f"echo ran >> {marker}"})
    house.llm.rules[:] = [
        Rule(about("work", tool=False), Answer(calls=(call,)), times=1),
        Rule(about("work"), "Done."),
    ]
    pid = await house.ready("one")
    with house.llm.hold(about("work", tool=True)) as hold:
        run = await house.send("one", "Do the work.")
        await hold.caught(timeout=120)
        house.kill(pid)
        await house.ready("one", not_pid=pid)
    assert await house.answer(run) == "Done."
    assert marker.read_text() == "ran\n", "the model did not ask for it again, so it ran once"


@both
async def test_replay_buys_nothing_twice(house: RealHouse) -> None:
    """Its home goes back to what it was before the message, and both answers come from the record: also the one that
    was under way when it died, which is brought to its end."""
    kind = house.agents["one"]
    config = house.folder / "relit.toml"
    config.write_text(config.read_text().replace(f'kind = "{kind}"\n', f'kind = "{kind}"\nresume = "replay"\n'))
    await house.relit("up")
    await house.event("instance.stopped")  # who brings messages in is started again with it
    call = ToolCall(SHELL[kind], {"command": "echo ran"})
    house.llm.rules[:] = [Rule(about("work", tool=False), Answer(calls=(call,))), Rule(about("work"), "Done.")]
    pid = await house.ready("one")
    with house.llm.hold(about("work", tool=True)) as hold:
        run = await house.send("one", "Do the work.")
        await hold.caught(timeout=120)
        house.kill(pid)
        await house.ready("one", not_pid=pid)
    assert (await house.answer(run)).strip() == "Done."
    calls = json.loads(await house.relit("turn", "show", "one", run, "--json"))["calls"]
    assert [each["state"] for each in calls if each["protocol"]] == ["done", "done", "replayed", "replayed"]
    asked = [each.ask for each in house.llm.requests if about("work")(each.ask)]
    assert len(asked) == 2
    assert [each for ask in asked for each in dated(ask.body, masks(kind_table(kind)["masks"]))] == []


# --- alive and dead -------------------------------------------------------------------------------------------------


@both
async def test_stopped_by_a_signal(house: RealHouse) -> None:
    pid = await house.ready("one")
    house.kill(pid, signal.SIGSTOP)
    await house.ready("one", not_pid=pid)
    await answers(house)


@both
async def test_an_event_loop_that_is_blocked(house: RealHouse) -> None:
    """Its threads stand still one by one, the process does not: the port is open, and no answer comes."""
    pid = await house.ready("one")
    house.block(pid)
    await house.ready("one", not_pid=pid)
    await answers(house)


# --- configurations -------------------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    """As after a power cut: half of it was written, the rest is zeros."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))


def deleted(path: Path) -> None:
    path.unlink()


def mistyped(path: Path) -> None:
    if path.suffix == ".json":
        path.write_text('{"gateway": {"mode": "local"}, "messages": "many"}')
    else:
        path.write_text("model: [1, 2]\nmcp_servers: 7\n")


def unknown(path: Path) -> None:
    if path.suffix == ".json":
        path.write_text('{"gateway": {"mode": "local"}, "gatway": {"port": 1}}')
    else:
        path.write_text(path.read_text() + "\nno_such_key: 1\n")


@pytest.mark.parametrize("harm", [truncated, deleted, mistyped, unknown])
@both
async def test_a_configuration_that_is_no_good(house: RealHouse, harm: Callable[[Path], None]) -> None:
    pid = await house.ready("one")
    await house.known_good("one")
    seen = len(house.entries("one"))
    harm(house.home("one") / CONFIG[house.agents["one"]])
    house.kill(pid)
    entries = await house.healed("one", seen)
    if (house.agents["one"], harm) != ("hermes", unknown):  # it ignores what it does not know
        assert did(entries)[0] == "put its configuration back"
    await answers(house)


RUINS = [("hermes", truncated), ("hermes", mistyped), ("openclaw", truncated), ("openclaw", unknown)]


@pytest.mark.parametrize(("house", "harm"), RUINS, indirect=["house"])
async def test_an_agent_that_ruins_its_configuration_when_it_would_be_known_good_and_dies_later(
    house: RealHouse, harm: Callable[[Path], None]
) -> None:
    """It goes on with what it has read. Its home is not taken for good, and nothing of its work goes back."""
    kind, later = house.agents["one"], house.config().replace('good_after = "5s"', 'good_after = "20s"')
    (house.folder / "relit.toml").write_text(later)
    await house.relit("up")
    await house.relit("agent", "restart", "one", timeout=400)
    pid = await house.ready("one")
    known = len(await house.events("instance.known_good"))
    harm(house.home("one") / CONFIG[kind])
    await house.event("config.broken")
    (house.home("one") / WORK[kind] / "work.txt").write_text("done since")
    await asyncio.sleep(45)  # its moment passes twice
    assert len(await house.events("instance.known_good")) == known
    seen = len(house.entries("one"))
    house.kill(house.status("one")["pid"] or pid)
    await house.healed("one", seen)
    assert (house.home("one") / WORK[kind] / "work.txt").read_text() == "done since"
    await answers(house)


@both
async def test_an_agent_that_breaks_its_own_configuration_and_dies_later(house: RealHouse) -> None:
    pid = await house.ready("one")
    await house.known_good("one")
    truncated(house.home("one") / CONFIG[house.agents["one"]])
    await house.event("config.broken")
    seen = len(house.entries("one"))
    house.kill(house.status("one")["pid"] or pid)
    await house.healed("one", seen)
    await answers(house)


# --- files ----------------------------------------------------------------------------------------------------------


@both
async def test_a_database_that_is_overwritten(house: RealHouse) -> None:
    pid = await house.ready("one")
    await house.known_good("one")
    await answers(house)
    seen = len(house.entries("one"))
    database = house.home("one") / DATABASE[house.agents["one"]]
    with database.open("r+b") as file:
        file.write(b"rubbish " * 512)
    house.kill(await house.ready("one") or pid)
    entries = await house.healed("one", seen)
    assert "put its whole home back" in did(entries)
    await answers(house)


@both
async def test_a_home_that_was_broken_before_the_newest_known_good_ones(house: RealHouse) -> None:
    """An older one is found in a clone, which asks no model, and the agent goes back once."""
    await house.ready("one")
    await answers(house)
    await house.known_good("one")
    await house.relit("agent", "stop", "one", timeout=400)
    for word in (b"rubbish ", b"garbage "):
        with (house.home("one") / DATABASE[house.agents["one"]]).open("r+b") as file:
            file.write(word * 512)
        await house.relit("volume", "snapshot", "one", "--tag", "known-good")
    seen, asked = len(house.entries("one")), len(house.llm.requests)
    await house.relit("agent", "start", "one", "--timeout", "1s", codes=(1, 5))
    await house.ready("one")
    found = [each for each in house.entries("one")[seen:] if each.what == "looked for an older home that works"]
    assert len(found) == 1, house.told()
    assert "came up" in found[0].outcome
    assert len(house.llm.requests) == asked
    await answers(house)


@both
async def test_stale_locks_of_a_dead_life(house: RealHouse) -> None:
    """They name processes that live: by their numbers alone, as after a reboot."""
    pid, home, hermes = await house.ready("one"), house.home("one"), house.agents["one"] == "hermes"
    leases = [] if hermes else leased(home)
    await house.relit("agent", "stop", "one", timeout=400)
    if hermes:
        for name in ("gateway.pid", "gateway_state.json"):
            (home / "home" / name).write_text(f'{{"pid": {os.getpid()}, "gateway_state": "running"}}')
    else:
        with contextlib.closing(sqlite3.connect(home / DATABASE["openclaw"])) as database, database:
            database.executemany("INSERT OR REPLACE INTO state_leases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", leases)
    await house.relit("agent", "start", "one", timeout=400)
    assert await house.ready("one") != pid
    assert hermes or leased(home) != leases, "it is the new life's now"
    await answers(house)


def leased(home: Path) -> list[tuple[object, ...]]:
    """Whose OpenClaw's state is: by the process's number in its own sandbox, which each life has."""
    with contextlib.closing(sqlite3.connect(home / DATABASE["openclaw"])) as database:
        found = database.execute("SELECT * FROM state_leases WHERE scope = 'gateway-owner'").fetchall()
    assert '"pid":2' in str(found)
    return found


@pytest.mark.parametrize("small_house", CONFIG, indirect=True)
async def test_a_full_disk(small_house: RealHouse) -> None:
    """The incident names it, and with room again everything goes on."""
    house = small_house
    pid = await house.ready("one")
    await house.known_good("one")
    ballast = fill(house.data)
    house.kill(pid)
    try:
        await asyncio.sleep(30)  # whatever is tried meanwhile must not make it worse
    finally:
        ballast.unlink()
    await house.until(lambda: any("is full" in each.cause for each in house.incidents("one")), "the incident")
    await house.ready("one", not_pid=pid)
    await answers(house)


@both
async def test_an_upgrade_to_a_broken_version(house: RealHouse) -> None:
    """It fails in a clone, and its agent never stops; the version is remembered as bad."""
    pid = await house.ready("one")
    with broken_version(house.runtimes, house.agents["one"], "9999.9.9"):
        await house.relit(*UPGRADE, timeout=WAIT_S, codes=(1,))
        assert await house.ready("one") == pid
        await house.relit(*UPGRADE, timeout=60, codes=(6,))
    assert await house.ready("one") == pid
    await answers(house)


# --- others ---------------------------------------------------------------------------------------------------------


@both
async def test_a_port_that_is_taken(house: RealHouse) -> None:
    """It cannot start, the incident says why, and it is back when the port is free again."""
    pid = await house.ready("one")
    port = house.port("one")
    await house.relit("agent", "stop", "one", timeout=400)
    with socket.create_server(("127.0.0.1", port)):
        await house.relit("agent", "start", "one", "--timeout", "1s", codes=(1, 5))  # it died, or has not yet
        await house.until(lambda: any(str(port) in each.cause for each in house.incidents("one")), "the incident")
    await house.ready("one", not_pid=pid)
    await answers(house)


@pytest.mark.parametrize("house", ["hermes"], indirect=True)
async def test_its_own_schedules_do_not_fire(house: RealHouse) -> None:
    """relit's do. OpenClaw has a setting for that; Hermes is given a scheduler that does nothing."""
    await house.ready("one")
    await house.relit("agent", "exec", "one", "--", "hermes", "cron", "create", "every 1m", "say tick")
    assert "tick" in (house.home("one") / "home" / "cron" / "jobs.json").read_text()
    await asyncio.sleep(150)  # its own scheduler fires after 60 to 120 s
    assert not [each for each in house.llm.requests if "scheduled cron job" in str(each)]
    await answers(house)


@both
async def test_two_starts_at_once(house: RealHouse) -> None:
    """Of all of relit while nothing runs, and of the agent while it is stopped: one process each time."""
    await house.ready("one")
    await house.relit("down", timeout=400)
    assert house.lives("one") == []
    await asyncio.gather(*(house.relit("up", "--timeout", "300s", timeout=360, codes=(0, 6)) for _ in range(3)))
    pid = await house.ready("one")
    assert len(house.lives("one")) == 1
    await house.relit("agent", "stop", "one", timeout=400)
    assert house.lives("one") == []
    await asyncio.gather(*(house.relit("agent", "start", "one", timeout=400, codes=(0, 6)) for _ in range(3)))
    await house.ready("one", not_pid=pid)
    assert len(house.lives("one")) == 1
    assert house.status("one")["restarts"] == 0
    await answers(house)


@both
async def test_the_node_and_the_keeper_die_and_the_agent_lives_on(house: RealHouse) -> None:
    house.llm.rules[:] = [Rule(about("river"), "The Seine.")]
    pid = await house.ready("one")
    with house.llm.hold(about("river")) as hold:
        run = await house.send("one", "Which river?")
        await hold.caught(timeout=120)
        house.kill_relit()
        await house.relit("up", "--timeout", "120s", timeout=180)
    assert await house.ready("one") == pid
    assert await house.answer(run) == "The Seine."


@both
async def test_an_outage_of_the_provider_moves_nothing(house: RealHouse) -> None:
    pid = await house.ready("one")
    house.llm.rules[:] = [Rule(about("hello"), Answer(status=500, message="we are down"))]
    run = await house.send("one", "hello")
    await house.llm.request(about("hello"), timeout=120)
    await asyncio.sleep(10)  # the point is that nothing happens meanwhile
    assert house.status("one")["pid"] == pid
    assert house.incidents("one") == []
    house.llm.rules[:] = [Rule(about("hello"), "Hello again.")]
    assert await house.answer(run) == "Hello again."
