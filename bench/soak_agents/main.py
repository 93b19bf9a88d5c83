"""A hundred agents with faults of their own beside real ones, and a storm: ``python -m bench.soak_agents.main``.

``--minutes N`` of faults from inside and outside while messages are sent all the while. Then it is calm, and everybody
must be well again and every message answered. A table, one JSON line, and exit code 1 when anything was lost, an agent
was left down, or a process outlived its agent's life. ``--no-real`` (``REAL=0``) leaves OpenClaw and Hermes out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any

from bench.house import House, installed
from bench.soak_agents.cast import Cast
from bench.soak_agents.mail import WELL, Mail
from bench.soak_agents.weather import Weather, say

from relit.testing.llm import Answer, Rule, ScriptedLLM, When

SETTLE_S = 300  # for commands: the longest back-off is a minute
REAL_SETTLE_S = 1_200  # for messages: a real agent on a busy machine takes a minute to start
TOLD_S = 15.0


class Soak:
    """One storm."""

    def __init__(self, folder: Path, model: str, args: argparse.Namespace) -> None:
        self.minutes = float(args.minutes)
        self.cast = Cast(folder, args.agents, real=args.real)
        self.house = House(folder, self.cast.tables(), model)
        self.weather = Weather(self.house, self.cast, Random(args.seed))
        self.mail = Mail(self.house)
        self.settled_s = 0.0

    @property
    def everybody(self) -> list[str]:
        """All agents."""
        return [*self.cast.modes, *self.cast.talkers]

    async def run(self) -> None:
        """Up, storm, calm."""
        await installed(self.cast.kinds(), say)
        await self.house.up()
        await self.first()
        await self.storm()
        await self.settle()

    async def first(self) -> None:
        """Everybody is well before it begins."""
        await self.house.until(lambda: not self.down(self.everybody), "not all agents are ready")
        say("all are ready")

    async def storm(self) -> None:
        """Faults and messages."""
        self.cast.calm(False)
        until = time.monotonic() + self.minutes * 60
        async with asyncio.TaskGroup() as group:
            group.create_task(self.weather.rage(until))
            for name in self.cast.talkers:
                group.create_task(self.mail.feed(name, until))
            group.create_task(self.tell(until))

    async def tell(self, until: float) -> None:
        """Now and then, how it goes."""
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(TOLD_S, left))
            states = Counter(each.state for each in self.house.seen().values())
            say(f"{left:.0f} s left: {dict(states)}; {len(self.mail.letters)} letters; {self.weather.told()}")

    async def settle(self) -> None:
        """It is calm: everybody becomes well again, and every letter is answered."""
        self.cast.calm(True)
        began = time.monotonic()
        await self.well(list(self.cast.modes))
        await self.mail.settle(REAL_SETTLE_S if len(self.cast.talkers) > 1 else SETTLE_S)
        await self.well(self.cast.talkers)  # real agents have had as long as their letters
        self.settled_s = time.monotonic() - began

    async def well(self, names: Collection[str]) -> None:
        """Wait until they are, but not for ever: who is not is told in the end."""
        try:
            await self.house.until(lambda: not self.down(names), "not all agents are ready", SETTLE_S)
        except RuntimeError as error:
            say(str(error))

    def down(self, names: Collection[str]) -> list[str]:
        """Who of them is not ready."""
        seen = self.house.seen()
        return [name for name in names if name not in seen or seen[name].state != "ready"]

    def violations(self) -> int:
        """Processes that outlived their agent's life."""
        files = [self.house.home(name) / "violations" for name in self.cast.modes]
        return sum(len(file.read_text().splitlines()) for file in files if file.exists())


def table(soak: Soak) -> str:
    """What a person reads."""
    seen = soak.house.seen()
    lines = ["| fault | agents | restarts | highest rung | not ready |", "|---|---:|---:|---:|---:|"]
    for mode in dict.fromkeys(soak.cast.modes.values()):
        names = [name for name, each in soak.cast.modes.items() if each == mode and name in seen]
        rung = max((soak.house.rung(name) for name in names), default=0)
        down = sum(seen[name].state != "ready" for name in names)
        lines.append(f"| {mode} | {len(names)} | {sum(seen[name].restarts for name in names)} | {rung} | {down} |")
    lines += ["", "| messages to | sent | answered | else |", "|---|---:|---:|---|"]
    lines += [f"| {' | '.join(row)} |" for row in soak.mail.rows(soak.cast.talkers)]
    lines += ["", *(f"{count} {what}" for what, count in sorted(soak.weather.counts.items()))]
    return "\n".join(lines)


def result(soak: Soak) -> dict[str, Any]:
    """The last line."""
    seen = soak.house.seen()
    return {
        "messages": len(soak.mail.letters),
        "lost": soak.mail.lost,
        "refused": sum(soak.mail.refused.values()),
        "down": soak.down(soak.everybody),
        "outlived": soak.violations(),
        "restarts": sum(each.restarts for each in seen.values()),
        "faults from outside": sum(soak.weather.counts.values()),
        "settled_s": round(soak.settled_s, 1),
        "load": os.getloadavg()[0],
    }


async def weathered(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All of it; whatever happens, nothing is left running."""
    async with ScriptedLLM([Rule(When(), Answer(text=WELL))]) as llm:
        soak = Soak(folder, llm.url, args)
        try:
            await soak.run()
            print(table(soak), end="\n\n")
            return result(soak)
        finally:
            await soak.house.relit("down", timeout=300)


def main() -> int:
    """0 when nothing was lost and nobody is left down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-real", dest="real", action="store_false")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="relit-soak-agents-"))
    found = asyncio.run(weathered(folder, args))
    broken = [key for key in ("lost", "down", "outlived") if found[key]]
    if broken:
        print(f"error: the storm broke a promise: {', '.join(broken)}; all of it is in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
