"""How long a real OpenClaw is away when relit has to put something back: ``python -m bench.node.real``.

Two of them are killed with -9 as they are; then one with its configuration emptied, and the other with its database
overwritten: each has one trouble only, so that nothing else was tried before. The figures are the seconds until it is
ready again, less those of the plain restarts: what the healing costs. One JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.house import House, installed, kill

from relit.testing.llm import Answer, Rule, ScriptedLLM, When

CONFIG, DATABASE = "state/openclaw.json", "state/state/openclaw.sqlite"
AGENT = """[agents.{name}]
kind = "openclaw"
heal = {{ good_after = "5s", retry = "5s" }}
snapshots = {{ every = "5s" }}
"""
RUBBISH = b"this was a database" * 4096
LIMIT_S = 900


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)


async def known_good(house: House, agent: str) -> None:
    """Until there is something to go back to."""
    async with asyncio.timeout(LIMIT_S):
        while "known-good" not in await house.relit("volume", "log", agent):  # noqa: ASYNC110 - another process
            await asyncio.sleep(1)


async def away(house: House, agent: str, damage: Callable[[Path], object]) -> float:
    """Damage its home and kill it; answers the seconds until it is ready again."""
    pid = await house.ready(agent)
    damage(house.home(agent))
    began = time.monotonic()
    kill(pid)
    await house.ready(agent, not_pid=pid, limit_s=LIMIT_S)
    return time.monotonic() - began


def empty_config(home: Path) -> None:
    """As a full disk does it."""
    (home / CONFIG).write_bytes(b"")


def ruin_database(home: Path) -> None:
    """With what is still to go into it."""
    for name in (DATABASE, f"{DATABASE}-wal"):
        (home / name).write_bytes(RUBBISH)


class Blow(NamedTuple):
    """What is done to an agent, and what relit must do about it."""

    key: str
    damage: Callable[[Path], object]
    cure: str


BLOWS = {
    "claw-a": Blow("config_restore_over_start_s", empty_config, "put its configuration back"),
    "claw-b": Blow("volume_restore_over_start_s", ruin_database, "put its whole home back"),
}


async def measured(house: House) -> dict[str, float]:
    """All of it."""
    for agent in BLOWS:
        await house.ready(agent, limit_s=LIMIT_S)
        run = await house.relit("send", agent, "Is all well?", "--wait", timeout=LIMIT_S)
        say(f"{agent} answers: {run.strip()}")
        await known_good(house, agent)
    plain = [await away(house, agent, lambda _: None) for agent in BLOWS]
    say(f"plain restarts: {', '.join(f'{each:.1f} s' for each in plain)}")
    took = {blow.key: await struck(house, agent, blow) for agent, blow in BLOWS.items()}
    start = median(plain)
    return {"start_s": start, **{key: each - start for key, each in took.items()}}


async def struck(house: House, agent: str, blow: Blow) -> float:
    """Seconds until it is back, by what was to be done."""
    took = await away(house, agent, blow.damage)
    done = house.actions(agent)
    say(f"{blow.key}: {took:.1f} s in all; {done}")
    if not any(each.startswith(blow.cure) for each in done):
        raise SystemExit(f"{agent} came back by {done}, not because relit {blow.cure}")
    return took


async def main() -> None:
    """In an empty folder."""
    await installed(["openclaw"], say)
    with tempfile.TemporaryDirectory(prefix="relit-bench-real-") as name:
        async with ScriptedLLM([Rule(When(), Answer(text="All is well."))]) as llm:
            house = House(Path(name), "".join(AGENT.format(name=agent) for agent in BLOWS), llm.url)
            try:
                await house.up()
                found = await measured(house)
            finally:
                await house.relit("down", timeout=180)
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
