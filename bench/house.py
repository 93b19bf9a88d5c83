"""A whole relit as a user runs it: `relit up` on a data folder of its own, with a scripted model behind its gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from relit.agents.recipes import kind_table, recipe_of
from relit.agents.runtimes import Runtimes
from relit.client import Client
from relit.control.values import InstanceStatus
from relit.node import record, status

RUNTIMES = Path(__file__).resolve().parents[1] / ".bench" / "runtimes"  # as the tests of real agents keep them
LOOK_S = 0.02
T = TypeVar("T")


async def installed(kinds: Sequence[str], say: Callable[[str], None]) -> None:
    """What these kinds need, through the ordinary registries, unless it is there."""
    runtimes = Runtimes(RUNTIMES, lambda progress: say(str(progress)), env=dict(os.environ))
    for kind in kinds:
        await runtimes.install(recipe_of(kind_table(kind)))


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that are free now."""
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(door.getsockname()[1]) for door in doors]
    for door in doors:
        door.close()
    return ports


class House:
    """``agents`` is the part of relit.toml that is about them; ``model`` the scripted model's address; ``node`` more of
    ``[node]``. ``enter``: called in the process of `relit up` before it begins."""

    def __init__(
        self, folder: Path, agents: str, model: str, *, node: str = "", enter: Callable[[], None] | None = None
    ) -> None:
        self.folder = folder
        self._enter = enter
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        self._port, gateway = free_ports(2)
        (folder / "relit.toml").write_text(
            f'[server]\nlisten = "127.0.0.1:{self._port}"\n[gateway]\nlisten = "127.0.0.1:{gateway}"\n'
            f'[node]\nruntimes = "{RUNTIMES}"\n{node}\n'
            f'[models.default]\nurl = "{model}/v1"\nkey = "scripted"\nmodel = "m"\n{agents}'
        )

    async def relit(self, *words: str, timeout: float = 120) -> str:
        """A command, as a user types it. RuntimeError with all that it said when it fails."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relit.cli", "--data", str(self.data), *words,
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8"},
            preexec_fn=self._enter if "up" in words else None,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            raise RuntimeError(f"relit {' '.join(words)} did not end in {timeout:.0f} s") from None
        if process.returncode:
            raise RuntimeError(f"relit {' '.join(words)} failed: {out.decode()}{err.decode()}")
        return out.decode()

    async def up(self, seconds: int = 600) -> None:
        """Start everything that is not there yet."""
        await self.relit("up", "--timeout", f"{seconds}s", timeout=seconds + 60)

    async def node_again(self) -> None:
        """After the node was killed: start it, and wait for it alone. That agents die meanwhile is no fault of it."""
        with contextlib.suppress(RuntimeError):
            await self.relit("up", "--timeout", "1s")
        await self.until(lambda: self.daemon().node, "the node did not come back", 60)

    def client(self) -> Client:
        """For its API, patient with a server that was killed."""
        return Client(f"http://127.0.0.1:{self._port}", (self.data / "token").read_text().strip(), patience=120)

    def home(self, agent: str) -> Path:
        """An agent's home."""
        return self.data / "agents" / agent / "home"

    # --- looking -----------------------------------------------------------------------------------------------

    def seen(self) -> dict[str, InstanceStatus]:
        """What the node last wrote of each instance."""
        known = record.read(self.data / "run")
        return {each.name: each for each in known.instances} if known is not None else {}

    def daemon(self) -> status.Running:
        """Keeper and node."""
        return status.read(self.data / "run")

    def pid_of(self, agent: str, *, not_pid: int = 0) -> int:
        """Of one that is ready (as another process than ``not_pid``), else 0."""
        found = self.seen().get(agent)
        return found.pid if found and found.pid and found.state == "ready" and found.pid != not_pid else 0

    async def ready(self, agent: str, *, not_pid: int = 0, limit_s: float = 600) -> int:
        """Until it is; answers its pid."""
        return await self.until(lambda: self.pid_of(agent, not_pid=not_pid), f"{agent} is not ready", limit_s)

    async def until(self, look: Callable[[], T], failure: str, limit_s: float = 600) -> T:
        """Until there is an answer to a question that only files and processes tell. RuntimeError when none comes."""
        try:
            async with asyncio.timeout(limit_s):
                while not (found := look()):  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(LOOK_S)
                return found
        except TimeoutError:
            raise RuntimeError(f"{failure} after {limit_s:.0f} s") from None

    def actions(self, agent: str) -> list[str]:
        """What the ladder ever did for an agent, in order."""
        entries = [entry for incident in self._incidents(agent) for entry in incident["timeline"]]
        return [entry["what"] for entry in entries if entry.get("took_ms") is not None]

    def rung(self, agent: str) -> int:
        """The highest that it ever came to."""
        return max((incident["rung"] for incident in self._incidents(agent)), default=0)

    def _incidents(self, agent: str) -> list[dict[str, Any]]:
        folder = self.data / "agents" / agent / "incidents"
        return [json.loads(each.read_bytes()) for each in sorted(folder.glob("*.json"))]


def kill(pid: int) -> None:
    """With no warning."""
    os.kill(pid, signal.SIGKILL)
