"""Messages that are sent all the while, and what became of each that was acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import NamedTuple

from bench.house import House
from bench.soak_agents.cast import SDK

from relit.client import Client
from relit.errors import NotFound, RelitError

WELL = "All is well."
PAUSE_S = {SDK: 0.3}
REAL_PAUSE_S = 12.0
ROUND_S = 2.0
OVER = ("completed", "failed", "cancelled", "dead")


class Letter(NamedTuple):
    """One acknowledged message."""

    agent: str
    run: str
    answer: str  # must be in what it is answered with


class Mail:
    """``letters`` are those that were acknowledged; ``refused`` counts those that were not."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.letters: list[Letter] = []
        self.refused: Counter[str] = Counter()
        self.fates: dict[str, str] = {}  # run -> state, wrong answer, lost

    async def feed(self, agent: str, until: float) -> None:
        """Write to one agent."""
        number = 0
        async with self._house.client() as client:
            while time.monotonic() < until:
                number += 1
                text = f"letter {number} to {agent}: is all well?"
                try:
                    sent = await client.send(agent, text)
                    answer = f"{text.upper()}: done" if agent == SDK else WELL
                    self.letters.append(Letter(agent, sent.id, answer))
                except RelitError:
                    self.refused[agent] += 1
                await asyncio.sleep(PAUSE_S.get(agent, REAL_PAUSE_S))

    async def settle(self, limit_s: float) -> None:
        """Wait until all of them have an answer, or for so long."""
        until = time.monotonic() + limit_s
        async with self._house.client() as client:
            while True:
                for letter in self.letters:
                    if self.fates.get(letter.run) not in (*OVER, "wrong answer"):
                        self.fates[letter.run] = await self._fate(client, letter)
                if all(fate in (*OVER, "wrong answer") for fate in self.fates.values()) or time.monotonic() > until:
                    return
                await asyncio.sleep(ROUND_S)

    async def _fate(self, client: Client, letter: Letter) -> str:
        try:
            run = await client.run(letter.run, payloads="full")
        except NotFound:
            return "lost"
        if run.state == "completed" and letter.answer not in str(run.output):
            return "wrong answer"
        return run.state

    def rows(self, talkers: list[str]) -> list[list[str]]:
        """A row for each agent: sent, answered, else."""
        rows = []
        for agent in talkers:
            fates = Counter(self.fates[letter.run] for letter in self.letters if letter.agent == agent)
            others = ", ".join(f"{count} {fate}" for fate, count in fates.items() if fate != "completed")
            rows.append([agent, str(sum(fates.values())), str(fates["completed"]), others or "0"])
        return rows

    @property
    def lost(self) -> int:
        """Acknowledged, and without the right answer."""
        return sum(fate != "completed" for fate in self.fates.values())
