"""How many real OpenClaws a small machine holds, each asked about every ten minutes: frozen meanwhile, or all awake."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from bench.house import House, installed
from bench.memory.machine import Machine, machine
from bench.node.processes import pss_kb

from relit.agents import door
from relit.errors import RelitError
from relit.lib.footprint import Forest, look
from relit.node import parked
from relit.testing.llm import Rule, ScriptedLLM, When

ASKED_EVERY_S = 600.0  # each of them
UP_S = 1_800  # to start one after the other costs 15 CPU seconds each
ROOM_S = 300  # for as many as there is room for
ANSWER_S = 300
WAKES = 20
AT_LEAST = 3  # turns of each of those that are awake before they are counted
Say = Callable[[str], None]


def density(folder: Path, limit: int, count: int, minutes: float, say: Say) -> dict[str, Any]:
    """``count`` of them, frozen while they are idle."""
    return asyncio.run(_density(folder, limit, count, minutes, say))


async def _density(folder: Path, limit: int, count: int, minutes: float, say: Say) -> dict[str, Any]:
    await installed(["openclaw"], say)
    with machine("claws", limit) as small:
        async with _town(folder, small, count, 'idle = { then = "freeze", after = "3s" }', "128M") as town:
            await town.house.until(lambda: town.all_in("frozen"), "not all are frozen", UP_S)
            held = town.held_mb()
            say(f"{count} OpenClaws are frozen, at {median(held):.0f} MB each; {small.used() >> 20} MB in use")
            wakes = await town.wakes(WAKES)
            answers = await town.asked(minutes)
        return {
            "openclaw_in_4g": count if None not in answers and not small.oom_kills() else 0,
            "claws": count, "claw_frozen_mb": round(median(held), 1), "claw_asked": len(answers),
            "claw_answered": sum(each is not None for each in answers), "claw_oom_kills": small.oom_kills(),
            "claw_wake_p50_ms": round(median(wakes) * 1000, 1), **_times("claw_turn", answers),
        }  # fmt: skip


def awake(folder: Path, limit: int, most: int, say: Say) -> int:
    """How many are awake together and answer when none is frozen and there is no swap."""
    return asyncio.run(_awake(folder, limit, most, say))


async def _awake(folder: Path, limit: int, most: int, say: Say) -> int:
    with machine("awake", limit) as small:
        async with _town(folder, small, most, "", "1M", all_fit=False) as town:
            for _ in range(AT_LEAST):
                await town.settled(say)
                await asyncio.gather(*(town.ask(name) for name in town.ready()))
            await town.settled(say)
            return len(town.ready())


def _times(name: str, answers: list[float | None]) -> dict[str, float | None]:
    known = sorted(each for each in answers if each is not None)
    if not known:
        return {f"{name}_p50_s": None, f"{name}_p99_s": None}
    return {f"{name}_p50_s": round(median(known), 2), f"{name}_p99_s": round(known[int(len(known) * 0.99)], 2)}


class _Town:
    """A relit with ``names``, on a small machine."""

    def __init__(self, house: House, names: list[str]) -> None:
        self.house = house
        self.names = names
        self._chance = Random(7)

    def ready(self) -> list[str]:
        seen = self.house.seen()
        return [name for name in self.names if name in seen and seen[name].state == "ready"]

    def all_in(self, state: str) -> bool:
        seen = self.house.seen()
        return all(name in seen and seen[name].state == state for name in self.names)

    def held_mb(self) -> list[float]:
        """Of each with its processes, what is in memory and its own."""
        forest, seen = Forest(look()), self.house.seen()
        return [pss_kb(sorted(forest.members(seen[name].pid or 0))) / 1024 for name in self.names]

    async def settled(self, say: Say) -> None:
        """Until as many are ready as will be: none more for a minute."""
        count, since = -1, time.monotonic()
        while time.monotonic() - since < 60:
            if (now := len(self.ready())) != count:
                count, since = now, time.monotonic()
                say(f"{count} are awake")
            await asyncio.sleep(1)

    async def wakes(self, count: int) -> list[float]:
        """Seconds until a frozen one answers over HTTP, so many times."""
        found = []
        for _ in range(count):
            await self.house.until(lambda: self.all_in("frozen"), "not all are frozen again", UP_S)
            name = self._chance.choice(self.names)
            place = self.house.data / "agents" / name
            url = f"http://127.0.0.1:{door.read(place).ports['gateway']}/healthz"
            began = time.monotonic()
            assert parked.wake(parked.beside(str(place / "run" / "hold"))), "it was parked"
            await asyncio.to_thread(_until_answered, url)
            found.append(time.monotonic() - began)
        return found

    async def asked(self, minutes: float) -> list[float | None]:
        """Messages at random, each agent one in ten minutes on average: seconds to each answer, None for none."""
        until, questions = time.monotonic() + minutes * 60, list[asyncio.Task[float | None]]()
        while time.monotonic() < until:
            questions.append(asyncio.create_task(self.ask(self._chance.choice(self.names))))
            await asyncio.sleep(self._chance.expovariate(len(self.names) / ASKED_EVERY_S))
        return list(await asyncio.gather(*questions))

    async def ask(self, name: str) -> float | None:
        """Seconds from a message to its answer."""
        began = time.monotonic()
        try:
            async with self.house.client() as client:
                sent = await client.send(name, "Is all well?")
                await client.result(sent.id, timeout=f"{ANSWER_S}s")
        except RelitError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            return None
        return time.monotonic() - began


@asynccontextmanager
async def _town(
    folder: Path, small: Machine, count: int, idle: str, reserve: str, *, all_fit: bool = True
) -> AsyncIterator[_Town]:
    """Started in the small machine; the model is outside."""
    os.mkdir(folder, 0o700)
    names = [f"claw-{number:02}" for number in range(count)]
    agents = "".join(f'[agents.{name}]\nkind = "openclaw"\n{idle}\nsnapshots = {{ every = "10m" }}\n' for name in names)
    async with ScriptedLLM([Rule(When(), "All is well.")]) as model:
        house = House(folder, agents, model.url, node=f'reserve = "{reserve}"', enter=small.enter)
        try:
            try:
                await house.up(UP_S if all_fit else ROOM_S)
            except RuntimeError:
                if all_fit:
                    raise
            yield _Town(house, names)
        finally:
            await house.relit("down", timeout=300)


def _until_answered(url: str) -> None:
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                json.loads(answer.read() or b"null")
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.005)
