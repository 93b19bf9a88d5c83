"""relit's gateway as `relit up` runs it: the same command, on a data folder of its own, with agents in a turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.gateway.load import Door
from bench.gateway.upstream import Script

from relit.agents import door
from relit.app import parts
from relit.app.agents import MODEL
from relit.app.instances import folder_of
from relit.app.specs import FEW_ARENAS
from relit.lib import proc
from relit.settings import Environment, Settings, load
from relit.store.values import NewRun, WorkerInfo

LEASE_MS = 3_600_000
_FRAME, _HEADER = 24, 32  # bytes of SQLite's write-ahead log


TOOL = """
[tools.touch]
description = "Touch it."
url = "{upstream}/1-0-0/touch"
arguments = {{ what = {{ type = "string" }} }}
effect = "native-key"
idempotency = "header:Idempotency-Key"
private = true
"""


class Cast(NamedTuple):
    """Agents of one script."""

    name: str
    size: int
    script: Script

    @property
    def agents(self) -> list[str]:
        """By name."""
        return [f"{self.name}-{number}" for number in range(self.size)]


class Relit:
    """``casts``: the agents, each group with a model of its own."""

    def __init__(self, folder: Path, upstream: str, casts: Sequence[Cast]) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._data.mkdir(parents=True, mode=0o700)
        (folder / "relit.toml").write_text(_settings(upstream, casts))
        self._environment = {**FEW_ARENAS, **os.environ, "HOME": str(folder), "RELIT_DATA": str(self._data)}
        self.settings: Settings = load(folder / "relit.toml", environment=Environment(self._environment))
        self._process: subprocess.Popen[str] | None = None
        self._tokens = {name: _token(self.settings, name) for cast in casts for name in cast.agents}
        self.url = ""

    @property
    def pids(self) -> list[int]:
        """The gateway's process."""
        assert self._process is not None, "it was started"
        return [self._process.pid]

    def doors(self, cast: Cast) -> list[Door]:
        """Of its agents."""
        return [Door(self.url, "/openai/v1", self._tokens[name]) for name in cast.agents]

    def start(self) -> None:
        """`relit gateway`, until it listens."""
        config = str(self._folder / "relit.toml")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "relit.cli", "--json", "--config", config, "gateway"],
                env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self._process.stdout is not None, "it is a pipe"
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"the gateway did not start:\n{(self._folder / 'log').read_text()}")
        self.url = json.loads(line)["listen"]

    def stop(self) -> None:
        """In good order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    async def begin(self, cast: Cast) -> None:
        """A message for each of these agents, and a worker that works on them: their calls belong to turns."""
        runs = [
            NewRun(id=f"turn-{name}", agent=name, workflow="message", kind="message", input=b"", mailbox=name)
            for name in cast.agents
        ]
        async with parts.store(self.settings) as store:
            await store.enqueue(runs)
        await self.deliver(cast, life=1)

    async def deliver(self, cast: Cast, life: int) -> None:
        """Their messages are worked on; the worker of the life before has died."""
        me, targets = proc.myself(), [f"{name}/message" for name in cast.agents]
        worker = WorkerInfo(
            id=f"{cast.name}-{life}", host="bench", pid=me.pid, start=me.start, boot=me.boot, namespace=me.namespace,
            targets=targets,
        )  # fmt: skip
        async with parts.store(self.settings) as store:
            if life > 1:
                await store.reap(f"{cast.name}-{life - 1}", proven=True, poison_after=99)
            await store.join(worker, LEASE_MS)
            claimed = await store.claim(worker.id, targets, cast.size)
        if len(claimed) != cast.size:
            raise SystemExit(f"of {cast.size} turns {len(claimed)} could be begun")

    def commits(self) -> int:
        """How many transactions are in the database's log now."""
        return commits_in((self._data / "relit.db-wal").read_bytes())


def commits_in(log: bytes) -> int:
    """Of SQLite's write-ahead log: each commit's last frame says how large the database is then. Frames of an earlier
    round of the log have other salts."""
    page, salts = int.from_bytes(log[8:12]), log[16:24]
    found = 0
    for at in range(_HEADER, len(log) - _FRAME - page + 1, _FRAME + page):
        if log[at + 8 : at + 16] != salts:
            break
        found += int.from_bytes(log[at + 4 : at + 8]) > 0
    return found


def _settings(upstream: str, casts: Sequence[Cast]) -> str:
    text = f'[gateway]\nlisten = "127.0.0.1:0"\n{TOOL.format(upstream=upstream)}'
    for cast in casts:
        text += f'[models.{cast.name}]\nurl = "{upstream}{cast.script.path}/v1"\nkey = "scripted"\nmodel = "m"\n'
        for name in cast.agents:
            text += f'[agents.{name}]\nkind = "command"\ncommand = ["true"]\nmodel = "{cast.name}"\nresume = "replay"\n'
            text += 'grants = ["tool:touch"]\n'
    return text


def _token(settings: Settings, agent: str) -> str:
    return door.settle(folder_of(settings, agent), [], [MODEL]).tokens[MODEL]
