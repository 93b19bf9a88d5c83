"""How long a real OpenClaw is away when relit has to put something back: ``python -m bench.node.real``.

It is killed with -9 as it is, then with its database overwritten, then with its configuration emptied. ``restarts`` of
its ladder is high, so that the plain kills before do not make it try something else first. The figures are the seconds
until it is ready again, less those of the plain restart: what the healing costs. One JSON line.
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

from bench.house import House, installed, kill

from relit.testing.llm import Answer, Rule, ScriptedLLM, When

AGENT = "claw"
CONFIG, DATABASE = "state/openclaw.json", "state/state/openclaw.sqlite"
AGENTS = f"""[agents.{AGENT}]
kind = "openclaw"
heal = {{ good_after = "5s", retry = "5s", restarts = 100 }}
snapshots = {{ every = "5s" }}
"""
PLAIN = 2
RUBBISH = b"this was a database" * 4096
LIMIT_S = 900


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)


async def known_good(house: House) -> None:
    """Until there is something to go back to."""
    async with asyncio.timeout(LIMIT_S):
        while "known-good" not in await house.relit("volume", "log", AGENT):  # noqa: ASYNC110 - another process
            await asyncio.sleep(1)


async def away(house: House, damage: Callable[[Path], object]) -> float:
    """Damage its home and kill it; answers the seconds until it is ready again."""
    pid = await house.ready(AGENT)
    damage(house.home(AGENT))
    began = time.monotonic()
    kill(pid)
    await house.ready(AGENT, not_pid=pid, limit_s=LIMIT_S)
    return time.monotonic() - began


def empty_config(home: Path) -> None:
    """As a full disk does it."""
    (home / CONFIG).write_bytes(b"")


def ruin_database(home: Path) -> None:
    """With what is still to go into it."""
    for name in (DATABASE, f"{DATABASE}-wal"):
        (home / name).write_bytes(RUBBISH)


async def measured(house: House) -> dict[str, float]:
    """All of it."""
    await house.ready(AGENT, limit_s=LIMIT_S)
    run = (await house.relit("send", AGENT, "Is all well?", "--wait", timeout=LIMIT_S)).strip()
    say(f"{AGENT} answers: {run}")
    await known_good(house)
    plain = [await away(house, lambda _: None) for _ in range(PLAIN)]
    say(f"plain restarts: {', '.join(f'{each:.1f} s' for each in plain)}")
    found = {"start_s": median(plain)}
    for key, damage, did in (
        ("volume_restore_over_start_s", ruin_database, "put its whole home back"),
        ("config_restore_over_start_s", empty_config, "put its configuration back"),
    ):
        before = len(house.actions(AGENT))
        took = await away(house, damage)
        done = house.actions(AGENT)[before:]
        say(f"{key}: {took:.1f} s in all; {done}")
        if not any(each.startswith(did) for each in done):
            raise SystemExit(f"{AGENT} came back by {done}, not because relit {did}")
        found[key] = took - found["start_s"]
    return found


async def main() -> None:
    """An OpenClaw of its own, in an empty folder."""
    await installed(["openclaw"], say)
    with tempfile.TemporaryDirectory(prefix="relit-bench-real-") as name:
        async with ScriptedLLM([Rule(When(), Answer(text="All is well."))]) as llm:
            house = House(Path(name), AGENTS, llm.url)
            try:
                await house.up()
                found = await measured(house)
            finally:
                await house.relit("down", timeout=180)
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
