"""A whole relit with real agents in it: `relit up` as a user runs it, and a scripted model behind its gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relit.control.care import Entry, Incident
from relit.lib import proc
from relit.node import kin, status
from relit.testing.llm import Rule, ScriptedLLM
from relit.testing.llm.ask import Ask

PROGRAM = {"openclaw": "node_modules/openclaw/openclaw.mjs", "hermes": "venv/bin/hermes"}
DIES = {
    "openclaw": "console.error('a module is missing'); process.exit(1)",
    "hermes": "import sys; sys.exit('a module is missing')",
}
UP_S = 300  # a busy machine: OpenClaw alone takes 20 CPU seconds to start
WAIT_S = 240


_TRACER = """
import ctypes, os, sys
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
for request in (SEIZE, INTERRUPT):
    if libc.ptrace(request, pid, None, None) == -1:
        raise OSError(ctypes.get_errno(), "ptrace")
while not (os.WIFEXITED(status := os.waitpid(pid, WALL)[1]) or os.WIFSIGNALED(status)):
    pass
"""


def free_ports(count: int) -> list[int]:
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [door.getsockname()[1] for door in doors]
    for door in doors:
        door.close()
    return ports


class RealHouse:
    """One data folder. ``agents``: names and kinds."""

    def __init__(self, folder: Path, runtimes: Path, agents: dict[str, str], rules: Sequence[Rule] = ()) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.llm = ScriptedLLM(list(rules))
        self._server, self._gateway = free_ports(2)
        self.runtimes = runtimes
        self.agents = agents
        self._tracers: list[subprocess.Popen[bytes]] = []

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self.llm.start()
        (self.folder / "relit.toml").write_text(self.config())
        await self.relit("up", "--timeout", f"{UP_S}s", timeout=UP_S + 60)

    async def stop(self) -> None:
        with contextlib.suppress(AssertionError):
            await self.relit("down", timeout=120)
        await self.llm.stop()
        for tracer in self._tracers:
            tracer.kill()
            tracer.wait()

    def config(self) -> str:
        tables = "".join(
            f'[agents.{name}]\nkind = "{kind}"\nheal = {{ good_after = "5s", retry = "5s" }}\n'
            f'snapshots = {{ every = "5s" }}\n'
            for name, kind in self.agents.items()
        )
        return (
            f'[server]\nlisten = "127.0.0.1:{self._server}"\n'
            f'[gateway]\nlisten = "127.0.0.1:{self._gateway}"\n'
            f'[node]\nruntimes = "{self.runtimes}"\n'
            f'[models.default]\nurl = "{self.llm.url}/v1"\nkey = "scripted"\nmodel = "m"\n{tables}'
        )

    # --- commands ----------------------------------------------------------------------------------------------

    async def relit(self, *words: str, timeout: float = 60, codes: Sequence[int] = (0,)) -> str:
        """A command, as a user types it. AssertionError with all that it said unless it ends as it should."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relit.cli", "--data", str(self.data), *words,
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8"},
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            raise
        assert process.returncode in codes, (
            f"{words}: {process.returncode}\n{out.decode()}\n{err.decode()}\n{self.told()}"
        )
        return out.decode()

    async def send(self, agent: str, text: str) -> str:
        """Put a message in; answers its run."""
        out = await self.relit("send", agent, text, "--json")
        return str(json.loads(out)["id"])

    async def answer(self, run: str) -> str:
        """Wait for its end; answers its result."""
        out = await self.relit("wait", run, "--timeout", f"{WAIT_S}s", "--json", timeout=WAIT_S + 30)
        return str(json.loads(out)["output"])

    # --- looking -----------------------------------------------------------------------------------------------

    def status(self, agent: str) -> dict[str, Any]:
        record = json.loads((self.data / "run" / "node.json").read_bytes())
        found: dict[str, Any] = next(each for each in record["instances"] if each["name"] == agent)
        return found

    async def until(self, condition: Callable[[], Any], what: str, timeout: float = WAIT_S) -> Any:
        """Wait for something that only files and processes tell."""
        try:
            async with asyncio.timeout(timeout):
                while not (found := condition()):
                    await asyncio.sleep(0.1)
                return found
        except TimeoutError:
            raise AssertionError(f"{what} did not come in {timeout:.0f} s\n{self.told()}") from None

    async def ready(self, agent: str, *, not_pid: int = 0) -> int:
        """Until it is ready (as another process than ``not_pid``); answers its pid."""

        def looked() -> int:
            status = self.status(agent)
            return status["pid"] if status["state"] == "ready" and status["pid"] != not_pid else 0

        return int(await self.until(looked, f"{agent} ready"))

    def incidents(self, agent: str) -> list[Incident]:
        folder = self.data / "agents" / agent / "incidents"
        return [msgspec.json.decode(each.read_bytes(), type=Incident) for each in sorted(folder.glob("*.json"))]

    def entries(self, agent: str) -> list[Entry]:
        """Everything that was ever written into its incidents."""
        return [entry for incident in self.incidents(agent) for entry in incident.timeline]

    async def healed(self, agent: str, after: int) -> list[Entry]:
        """Until it answers again; answers what came after the first ``after`` entries."""

        def looked() -> list[Entry]:
            found = self.entries(agent)[after:]
            return found if found and found[-1].what in ("ready again", "it is over") else []

        found: list[Entry] = await self.until(looked, f"{agent} healed")
        return found

    async def known_good(self, agent: str) -> None:
        """Until there is something to go back to."""

        async def looked() -> bool:
            return "known-good" in await self.relit("volume", "log", agent)

        async with asyncio.timeout(WAIT_S):
            while not await looked():
                await asyncio.sleep(0.5)

    def home(self, agent: str) -> Path:
        return self.data / "agents" / agent / "home"

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        assert proc.start_time(pid) is not None, f"{pid} is gone already"
        os.kill(pid, number)

    def block(self, pid: int) -> None:
        """Stop its main thread alone, as a debugger does, until it is killed."""
        self._tracers.append(subprocess.Popen([sys.executable, "-c", _TRACER, str(pid)]))

    def port(self, agent: str) -> int:
        door = json.loads((self.data / "agents" / agent / "run" / "door.json").read_bytes())
        return int(next(iter(door["ports"].values())))

    def kill_relit(self) -> None:
        """The node and the keeper, as an out-of-memory killer would."""
        known = status.read(self.data / "run")
        assert known.node is not None
        assert known.keeper is not None
        for pid in (known.node, known.keeper):
            os.kill(pid, signal.SIGKILL)

    async def events(self, name: str) -> list[str]:
        """What was recorded of that name, a line each."""
        told = await self.relit("tail", "--from-start", "--no-follow", "--name", name)
        return [line for line in told.splitlines() if name in line]

    async def event(self, name: str) -> None:
        """Until such an event was recorded."""
        async with asyncio.timeout(WAIT_S):
            while not await self.events(name):
                await asyncio.sleep(0.5)

    def lives(self, agent: str) -> list[int]:
        """The processes that serve it, without those that come from them."""
        home, table = f"RELIT_HOME={self.home(agent)}".encode(), kin.table()
        ours = set()
        for pid in table:
            with contextlib.suppress(OSError):
                if home in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    ours.add(pid)
        return sorted(pid for pid in ours if table[pid].ppid not in ours)

    def told(self) -> str:
        """What would help to see why a test failed."""
        parts = []
        for agent in self.agents:
            for log in sorted((self.data / "agents" / agent / "log").glob("*.log")):
                parts += [f"--- {log.name} of {agent}", *log.read_text(errors="replace").splitlines()[-25:]]
            for incident in self.incidents(agent):
                parts.append(f"--- incident of {agent}: {[(each.what, each.outcome) for each in incident.timeline]}")
        return "\n".join(parts)


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Half a gigabyte of memory as a disk."""
    place.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m,mode=700", "none", str(place)], check=False)
    if done.returncode:
        missing = "needs the right to mount a disk (root)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave no room; what to remove to have it again."""
    ballast = place / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    return ballast


@contextlib.contextmanager
def broken_version(runtimes: Path, kind: str, version: str) -> Iterator[None]:
    """A version of it that is installed and cannot start."""
    good = next(each for each in (runtimes / kind).iterdir() if each.name[0].isdigit() and each.name != version)
    bad = runtimes / kind / version
    known = runtimes / kind / "bad.json"
    known.unlink(missing_ok=True)  # of a run that was cut short
    subprocess.run(["rm", "-rf", str(bad)], check=True)
    subprocess.run(["cp", "-al", str(good), str(bad)], check=True)
    try:
        record, program = bad / "runtime.json", bad / PROGRAM[kind]
        text, shebang = record.read_text(), program.read_text().splitlines()[0]
        record.unlink()
        record.write_text(text.replace(f'"version": "{good.name}"', f'"version": "{version}"', 1))
        program.unlink()
        program.write_text(f"{shebang}\n{DIES[kind]}\n")
        program.chmod(0o755)
        yield
    finally:
        known.unlink(missing_ok=True)
        subprocess.run(["rm", "-rf", str(bad)], check=True)


def below(pid: int) -> set[int]:
    """All processes that come from that one."""
    table = kin.table()
    found = {pid}
    while more := {each.pid for each in table.values() if each.ppid in found} - found:
        found |= more
    return found - {pid}


def running(argv: Sequence[str], beside: int) -> set[int]:
    """Processes of that command line in the sandbox of ``beside``: whoever started them may have left them."""
    found: set[int] = set()
    sandbox = os.readlink(f"/proc/{beside}/ns/pid")
    for pid in kin.table():
        with contextlib.suppress(OSError):  # it ends, or is not ours
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
            if words == [word.encode() for word in argv] and os.readlink(f"/proc/{pid}/ns/pid") == sandbox:
                found.add(pid)
    return found


INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"  # OpenClaw ends each prompt with a message of its own


def about(words: str, *, tool: bool | None = None) -> Callable[[Ask], bool]:
    """Whether the newest words of a person are about that; ``tool``: and whether a tool has answered since."""

    def matches(ask: Ask) -> bool:
        said = [turn for turn in ask.turns if not (turn.role == "user" and turn.text.startswith(INTERNAL))]
        last = max((number for number, turn in enumerate(said) if turn.role == "user"), default=-1)
        answered = any(turn.role == "tool" for turn in said[last + 1 :])
        return last >= 0 and words in said[last].text and tool in (None, answered)

    return matches
