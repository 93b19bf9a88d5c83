"""relit, as its users run it: `relit up`, commands, the client."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx

from relit import documents
from relit.client import Client
from relit.client.volumes import Volumes

T = TypeVar("T")
HERE = Path(__file__).resolve().parent
PYTHON = sys.executable


def until(done: Callable[[], bool], failure: str, *, every_s: float = 0.01, limit_s: float = 300) -> None:
    """Return when it is done."""
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(failure)
        time.sleep(every_s)


def free_port() -> int:
    """One that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Relit:
    """One data folder with one agent, ``bench``, or with a fleet of ``agents``."""

    def __init__(
        self,
        folder: Path,
        files: int,
        *,
        every: str = "1h",
        agents: int = 0,
        store: str = "local",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.home = self.data / "agents" / "bench" / "home"
        self.address = f"relit-bench-{os.getpid()}-{folder.name}"
        self.port = free_port()
        self._environment = {**os.environ, **(environment or {})}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as for users, whose packages are compiled
        self._fleet = [f"agent-{number:03}" for number in range(agents)]
        agent = [PYTHON, str(HERE / "agent.py"), str(self.home), str(files), self.address]
        commands = {name: ["sleep", "infinity"] for name in self._fleet} or {"bench": agent}
        text = f'[server]\nlisten = "127.0.0.1:{self.port}"\n[volumes]\nstore = "{store}"\n'
        for name, command in commands.items():
            text += f'[agents.{name}]\nkind = "command"\ncommand = {json.dumps(command)}\n'
            text += f'[agents.{name}.snapshots]\nevery = "{every}"\n'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "relit.toml").write_text(text)

    def names(self) -> list[str]:
        """The agents of a fleet."""
        return self._fleet

    def command(self, *words: str) -> float:
        """Run `relit` and answer the seconds it took."""
        config = ["--config", str(self.folder / "relit.toml"), "--data", str(self.data)]
        begin = time.perf_counter()
        done = subprocess.run(
            [PYTHON, "-m", "relit.cli", *config, *words], capture_output=True, text=True, env=self._environment
        )
        took = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"relit {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        self.said = done.stdout
        return took

    def up(self) -> None:
        """Start everything, and wait until snapshots can be asked for."""
        self.command("up")
        until((self.data / "run" / "volumes.ready").exists, "the volumes did not come up")

    def down(self) -> None:
        """Stop everything."""
        self.command("down")

    def runs(self) -> bool:
        """Whether it is up."""
        return (self.data / "run" / "volumes.ready").exists() and (self.data / "run" / "keeper.sock").exists()

    def ask(self, question: Callable[[Volumes], Awaitable[T]], *, api: bool = True) -> T:
        """Through the server, or of the process that keeps the volumes itself, as a turn does."""

        async def asked() -> T:
            token = (self.data / "token").read_text().strip()
            socket_file = str(self.data / "run" / "volumes.sock")
            transport = None if api else httpx.AsyncHTTPTransport(uds=socket_file)
            url = f"http://127.0.0.1:{self.port}" if api else "http://localhost"
            async with Client(url, token, patience=60, transport=transport) as client:
                return await question(client.volumes)

        return asyncio.run(asked())

    def timed(self, question: Callable[[Volumes], Awaitable[T]], *, api: bool = True) -> tuple[float, T]:
        """(seconds of the request alone, its answer)."""

        async def measured(volumes: Volumes) -> tuple[float, T]:
            await volumes.list()  # the connection is there by now
            begin = time.perf_counter()
            answer = await question(volumes)
            return time.perf_counter() - begin, answer

        return self.ask(measured, api=api)

    def snapshot(self, *, api: bool = False) -> tuple[float, documents.Taken]:
        """Take one now."""
        return self.timed(lambda volumes: volumes.snapshot("bench"), api=api)

    def newest(self) -> int:
        """The newest snapshot's number, when nothing runs."""
        self.command("--json", "volume", "log", "bench")
        return int(json.loads(self.said)["snapshots"][0]["number"])

    def edit(self, what: str) -> None:
        """Have the agent edit its home."""
        with socket.socket(socket.AF_UNIX) as line:
            deadline = time.monotonic() + 30
            while True:
                try:
                    line.connect("\0" + self.address)
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            line.sendall(f"{what}\n".encode())
            line.recv(10)

    def daemon(self) -> int:
        """The process id of the volumes' process."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"volumes" in words and str(self.data).encode() in words:
                    return int(entry.name)
        raise SystemExit("the volumes' process is not there")

    def stored(self) -> int:
        """Bytes that packs and spool take."""
        places = (self.data / "volumes" / "packs", self.data / "spool")
        return sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())


def memory_mb(pid: int) -> float:
    """The most that a process ever had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"process {pid} is gone")


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
