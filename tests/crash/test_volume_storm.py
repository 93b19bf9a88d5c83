"""Commands that keep volumes, killed at random moments, one after the other on one data folder."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from volume_survivor import Expected, Survivor
from volume_victim import AGENT, Told, edit, first_files

KILLS = 40
TOML = """
[volumes]
store = "local"

[agents.ada]
kind = "command"
command = ["true"]
snapshots = { keep = "1s all" }
"""


class Storm:
    """A home that is edited between commands, some of which are killed."""

    def __init__(self, folder: Path, chance: Random) -> None:
        self.folder, self.chance = folder, chance
        self.told = Told(folder)
        self.home = folder / "data" / "agents" / AGENT / "home"
        self.pinned: list[int] = []
        self.took: dict[int, str] = {}
        self.kills = self.turn = 0
        self.usual_s = 0.0

    async def command(self, *words: str, spared: bool = False) -> Any:
        """What it answered; ``None`` when it was killed before."""
        flags = ("--json", "--yes", "--config", str(self.folder / "relit.toml"), "--data", str(self.folder / "data"))
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relit.cli", *flags, *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "RELIT_SERVER": ""},
        )  # fmt: skip
        if spared:
            out, err = await process.communicate()
            self.usual_s = time.monotonic() - began
        else:
            out, err = await self._killed(process)
        assert process.returncode in (0, -9), err.decode()
        if process.returncode == 0:
            return json.loads(out)
        self.kills += 1
        return None

    async def _killed(self, process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
        talk = asyncio.ensure_future(process.communicate())
        await asyncio.wait([talk], timeout=self.usual_s * self.chance.uniform(0.3, 1.2))
        if not talk.done():
            process.kill()
        return await talk

    async def settled(self) -> None:
        """Any command brings to an end what was cut short; then the home is as before or as wanted."""
        await self.command("volume", "ls", spared=True)
        now = self.told.seen(self.home)
        Expected(self.told).same(now, Expected(self.told).homes[AGENT], "the home")
        self.told.add(home=AGENT, shape=now)

    def note(self, number: int, now: str) -> None:
        self.took[number] = now
        self.told.add(took=AGENT, number=number, shape=now)

    async def snapshot(self, *, spared: bool = False) -> None:
        """Of a new version."""
        self.turn += 1
        edit(self.home, self.turn)
        now = self.told.seen(self.home)
        self.told.add(home=AGENT, shape=now)
        self.told.add(taking=AGENT, shape=now)
        answer = await self.command("volume", "snapshot", AGENT, spared=spared)
        if answer is not None:
            self.note(answer["snapshot"]["number"], now)

    async def restore(self) -> None:
        """To one that no prune takes away."""
        number, was = self.chance.choice(self.pinned), self.told.seen(self.home)
        self.told.add(going=AGENT, was=was, then=self.took[number])
        answer = await self.command("volume", "restore", AGENT, "--at", str(number))
        if answer is not None:
            self.note(answer["before"], was)
            self.note(answer["number"], self.took[number])
            self.told.add(home=AGENT, shape=self.took[number])

    async def prune(self) -> None:
        """All but the newest and the pinned ones."""
        for number in sorted(self.took.keys() - set(self.pinned))[:-1]:
            self.told.add(dropping=AGENT, number=number)
        await self.command("volume", "prune")

    async def pin(self) -> None:
        """The newest that was answered."""
        number = max(self.took)
        await self.command("volume", "pin", AGENT, str(number), spared=True)
        self.pinned.append(number)

    async def blow(self) -> None:
        """Until enough were killed."""
        for _ in range(3):
            await self.snapshot(spared=True)
            await self.pin()
        while self.kills < KILLS:
            await self.chance.choice((self.snapshot, self.snapshot, self.restore, self.prune))()
            await self.settled()


@pytest.mark.crash
@pytest.mark.timeout(900)
async def test_volumes_survive_a_storm_of_killed_commands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    (tmp_path / "relit.toml").write_text(TOML)
    (tmp_path / "options").write_text("{}")
    storm = Storm(tmp_path, Random(7))
    first_files(storm.home)
    await storm.blow()
    await Survivor(tmp_path).check()
    assert caplog.records == []
